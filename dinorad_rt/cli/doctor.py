"""`dinorad-rt doctor`: what this machine has, what is wrong, and how to mend it."""

from __future__ import annotations

import shutil
from typing import Annotated, Any, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import print_json

Level = Literal["ok", "note", "problem"]
Check = dict[str, str]
FREE_SPACE_WANTED = 5e9
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
    checks.append(_cache_check())
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


def _cache_check() -> Check:
    from dinorad_rt.errors import OutputError
    from dinorad_rt.paths import CACHE_VARIABLE, cache_dir

    try:
        root = cache_dir("engines").parent
    except OutputError as error:
        return _check("cache", "problem", error.problem, f"set {CACHE_VARIABLE}")
    free = shutil.disk_usage(root).free
    level: Level = "ok" if free > FREE_SPACE_WANTED else "note"
    return _check(
        "cache",
        level,
        f"{root}, {free / 1e9:.0f} GB free",
        "" if level == "ok" else f"dinorad-rt cache prune, or set {CACHE_VARIABLE}",
    )


def _hub_check() -> Check:
    from dinorad_rt.backbones.hub import hub_problem

    problem = hub_problem()
    if problem is None:
        return _check("weights hub", "ok", "reachable")
    return _check("weights hub", "note", problem, "give --weights PATH, or --weights random")
