"""`dinorad-rt doctor`: what this machine has, what is wrong, and how to mend it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import print_json
from dinorad_rt.words import count_of

Level = Literal["ok", "note", "problem"]
Check = dict[str, str]
FREE_SPACE_WANTED, LEAST_SPACE = 5e9, 3e8
"""Bytes: for comfort, and for graph, program and engine of ViT-S, below which nothing works."""
SHARED_MEMORY, SHARED_WANTED = Path("/dev/shm"), 1e9
EXIT_PROBLEM = 1


def doctor(
    offline: Annotated[
        bool, typer.Option("--offline", help="Do not try to reach the hub.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check this machine: processor, backends, native kernel, decoders, cache, hub."""
    from dinorad_rt.machine import machine_facts

    checks = [*_backend_checks(), _runtime_check(), _kernel_check(), *_decoder_checks()]
    checks += [*_gpu_checks(), *_limit_checks(), *_shared_memory_checks(), _cache_check()]
    if not offline:
        checks.append(_hub_check())
    facts: dict[str, Any] = machine_facts()
    if as_json:
        print_json({"machine": facts, "checks": checks})
    else:
        _print(facts, checks)
    if any(check["level"] == "problem" for check in checks):
        raise typer.Exit(EXIT_PROBLEM)


def _print(facts: dict[str, Any], checks: list[Check]) -> None:
    from dinorad_rt.reports.table import key_value_table, print_table, rows_table

    plain = {key: _join(value) for key, value in facts.items()}
    print_table(key_value_table("Machine", plain))
    print_table(rows_table("Checks", checks))


def _join(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key.replace('_', ' ')} {_join(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return " ".join(map(_join, value)) or "none"
    return str(value)


def _check(name: str, level: Level, found: str, fix: str = "") -> Check:
    return {"check": name, "level": level, "found": found, "fix": fix}


def _backend_checks() -> list[Check]:
    from dinorad_rt.runners.registry import list_backends

    rows = list_backends()
    checks = [
        _check(
            f"backend {row.backend}",
            "ok" if row.can_run else "note",
            f"{row.version or 'not installed'}"
            + (f" on {', '.join(row.devices)}" if row.devices else "")
            + (f"; {row.reason}" if row.reason else ""),
            "" if row.can_run else row.install,
        )
        for row in rows
    ]
    if not any(row.can_run and row.backend != "pytorch" for row in rows):
        checks.append(
            _check(
                "an engine backend",
                "problem",
                "only PyTorch can run here",
                "pip install 'dinorad-rt[cpu]'",
            )
        )
    return checks


def _runtime_check() -> Check:
    from dinorad_rt.optional import version_of

    cpu, gpu = version_of("onnxruntime"), version_of("onnxruntime-gpu")
    if cpu and gpu:
        return _check(
            "one ONNX Runtime",
            "problem",
            f"onnxruntime {cpu} and onnxruntime-gpu {gpu} overwrite each other's files",
            "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu",
        )
    return _check("one ONNX Runtime", "ok", cpu or gpu or "none installed")


def _kernel_check() -> Check:
    from dinorad_rt.preprocessing.native import describe, is_available

    if is_available():
        return _check("native kernel", "ok", describe())
    return _check(
        "native kernel",
        "note",
        "not built: the reference code gives the same numbers, slower",
        "reinstall with a C++17 compiler, without DINORAD_PURE",
    )


def _decoder_checks() -> list[Check]:
    from dinorad_rt.optional import is_installed

    if not is_installed("pydicom"):
        return [_check("DICOM", "note", "pydicom is not installed", "pip install pydicom")]
    from dinorad_rt.studies.decoders import decoder_states

    return [
        _check(
            f"DICOM {state.name}",
            "ok" if state.plugins else "note",
            ", ".join(state.plugins) or "no decoder",
            "" if state.plugins else state.install,
        )
        for state in decoder_states()
    ]


def _gpu_checks() -> list[Check]:
    """Which GPU is meant, where the driver has any."""
    from dinorad_rt.machine import driver_gpus, gpu_facts

    there, meant = driver_gpus(), gpu_facts()
    if not there:
        return []
    names = ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")
    given = [f"{name}={os.environ[name]!r}" for name in names if name in os.environ]
    because = f" ({', '.join(given)})" if given else ""
    several = len({gpu["name"] for gpu in there}) > 1
    if not meant:
        found = f"CUDA sees none of {count_of(len(there), 'GPU')}{because}"
        return [_check("GPU", "note", found, f"unset {names[0]}, or name one: 0 is the first")]
    found = f"{meant['name']}, of {count_of(len(there), 'GPU')}{because}"
    if several and names[1] not in os.environ:
        found += "; CUDA counts from the fastest, nvidia-smi by the bus"
    return [_check("GPU", "ok", found)]


def _limit_checks() -> list[Check]:
    """What a container or a batch system leaves of the machine; nothing where it leaves all."""
    from dinorad_rt.machine import memory_gib, physical_bytes, usable_cores

    cores, there = usable_cores(), os.cpu_count() or 1
    memory, physical = memory_gib(), round(physical_bytes() / 2**30, 1)
    if (cores, memory) == (there, physical):
        return []
    found = f"{cores} of {count_of(there, 'core')}, {memory} of {physical} GiB of memory"
    return [_check("limits of this process", "ok", found)]


def _shared_memory_checks() -> list[Check]:
    """Containers have 64 MB of it by default: reading processes hand batches over there."""
    try:
        size = shutil.disk_usage(SHARED_MEMORY).total
    except OSError:
        return []
    if size >= SHARED_WANTED:
        return []
    return [
        _check(
            "shared memory",
            "note",
            f"{SHARED_MEMORY} has {size / 1e6:.0f} MB: training reads with fewer processes",
            "docker run --shm-size=2g, or --ipc=host",
        )
    ]


def _cache_check() -> Check:
    from dinorad_rt.errors import OutputError
    from dinorad_rt.paths import CACHE_KINDS, CACHE_VARIABLE, cache_dir

    elsewhere = f"set {CACHE_VARIABLE} to a folder that you may write to"
    try:
        root = cache_dir("engines").parent
    except OutputError as error:
        return _check("cache", "problem", error.problem, elsewhere)
    closed = [kind for kind in CACHE_KINDS if not _is_writable(root / kind)]
    if closed:
        what = "it" if len(closed) == len(CACHE_KINDS) else f"its {', '.join(closed)}"
        found = f"{root}: you may not write to {what}; what is there is used, and nothing kept"
        return _check("cache", "problem", found, elsewhere)
    free = shutil.disk_usage(root).free
    level: Level = "ok" if free > FREE_SPACE_WANTED else "note"
    if free < LEAST_SPACE:
        level = "problem"
    size = f"{free / 1e9:.0f} GB" if free >= 1e10 else f"{free / 1e9:.1f} GB"
    return _check(
        "cache",
        level,
        f"{root}, {size} free",
        "" if level == "ok" else f"dinorad-rt cache prune, or set {CACHE_VARIABLE}",
    )


def _is_writable(folder: Path) -> bool:
    """Whether something can be put into `folder`; where it is not there, into the one above."""
    there = folder if folder.is_dir() else folder.parent
    return os.access(there, os.W_OK | os.X_OK)


def _hub_check() -> Check:
    from dinorad_rt.backbones.hub import hub_problem

    problem = hub_problem()
    if problem is None:
        return _check("weights hub", "ok", "reachable")
    return _check("weights hub", "note", problem, "give --weights PATH, or --weights random")
