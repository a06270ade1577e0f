"""Facts of this machine that decide speed and numbers: no host name, no user, no path."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dinorad_rt.files import sha256_json
from dinorad_rt.optional import version_of

INSTRUCTION_SETS = (
    *("sse4_2", "avx2", "fma", "f16c", "avx_vnni"),
    *("avx512f", "avx512bw", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "avx10"),
    *("asimd", "asimdhp", "asimddp", "sve", "sve2", "bf16", "i8mm"),
)
"""Names as Linux spells them; ARM's `asimdhp` is FP16 arithmetic."""

PACKAGES = (
    "dinorad-rt",
    "numpy",
    "torch",
    "timm",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "tensorrt",
    "tensorrt-rtx",
    "pydicom",
    "scikit-learn",
)
_GPU_FIELDS = ("name", "compute_cap", "driver_version", "memory.total", "uuid")


def machine_facts() -> dict[str, Any]:
    """What this machine is: processor, memory, system, GPUs, versions of the packages that count.

    Returns:
        Plain values for provenance: `cpu` (model, cores usable, instruction sets), `memory_gib`,
        `os`, `python`, `gpus` (one entry each), `packages` (name → version of the installed ones).
    """
    versions = {name: version_of(name) for name in PACKAGES}
    return {
        "cpu": cpu_facts(),
        "memory_gib": memory_gib(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "gpus": [dict(gpu) for gpu in _gpus()],
        "packages": {name: version for name, version in versions.items() if version},
    }


def cpu_facts() -> dict[str, Any]:
    """Model, architecture, usable cores and instruction sets of the processor."""
    return {
        "model": cpu_model(),
        "architecture": platform.machine(),
        "cores": usable_cores(),
        "instruction_sets": list(instruction_sets()),
    }


def machine_digest() -> str:
    """SHA-256 of processor and GPUs: what a remembered measurement is valid for."""
    return sha256_json({"cpu": cpu_facts(), "gpus": [dict(gpu) for gpu in _gpus()]})


def usable_cores() -> int:
    """Cores that this process may use: affinity and the container's quota respected."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quota = _cgroup_quota()
    return max(1, min(cores, quota)) if quota else cores


@functools.cache
def cpu_model() -> str:
    """The processor's own name."""
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    if platform.system() == "Darwin":
        return _output_of("sysctl", "-n", "machdep.cpu.brand_string") or platform.machine()
    return platform.processor() or platform.machine()


@functools.cache
def instruction_sets() -> tuple[str, ...]:
    """Those of `INSTRUCTION_SETS` that the processor has; empty where the system tells nothing."""
    found: set[str] = set()
    for line in _cpuinfo():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            found = set(value.split())
            break
    if platform.system() == "Darwin":
        found = _darwin_features()
    return tuple(name for name in INSTRUCTION_SETS if name in found)


def cpu_precisions() -> tuple[str, ...]:
    """Precisions for which the processor has its own arithmetic; fp32 always.

    BF16: AVX512-BF16, AMX-BF16 or ARM BF16. FP16: AVX512-FP16, AMX-FP16 or ARM's half precision;
    F16C only converts, so it does not count.
    """
    have = set(instruction_sets())
    precisions = ["fp32"]
    if have & {"avx512_bf16", "amx_bf16", "bf16"}:
        precisions.append("bf16")
    if have & {"avx512_fp16", "amx_fp16", "asimdhp"}:
        precisions.append("fp16")
    return tuple(precisions)


def memory_gib() -> float:
    """Physical memory in GiB, rounded to 0.1; 0 where the system does not tell."""
    try:
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0.0
    return round(total / 2**30, 1)


def has_gpu() -> bool:
    """True if a CUDA GPU is visible to this process; loads nothing heavy."""
    return bool(_gpus())


def torch_has_gpu() -> bool:
    """True if there is a GPU and the installed PyTorch can use it."""
    if not has_gpu():
        return False
    import torch

    return bool(torch.cuda.is_available())


def gpu_facts() -> dict[str, str]:
    """Name, compute capability, driver and memory of the first visible GPU; empty without one."""
    gpus = _gpus()
    return dict(gpus[0]) if gpus else {}


def visible_gpus(uuids: Sequence[str]) -> list[int]:
    """Places of the GPUs that CUDA_VISIBLE_DEVICES leaves, in its order: the first is cuda:0.

    Numbers are those of the driver, as with CUDA_DEVICE_ORDER=PCI_BUS_ID; without that variable
    CUDA counts from the fastest, where a machine has GPUs of several kinds. Parts of a GPU (MIG)
    are not listed by the driver, so with them every GPU counts.

    Args:
        uuids: of all GPUs, in the order of the driver.
    """
    wanted = os.environ.get("CUDA_VISIBLE_DEVICES")
    if wanted is None or "MIG-" in wanted:
        return list(range(len(uuids)))
    found = []
    for text in map(str.strip, wanted.split(",")):
        by_number = [int(text)] if text.isdecimal() and int(text) < len(uuids) else []
        by_name = [at for at, uuid in enumerate(uuids) if text and uuid.startswith(text)]
        if not (place := by_number or by_name):
            break  # CUDA passes over what follows as well
        found.append(place[0])
    return found


@functools.cache
def _gpus() -> tuple[tuple[tuple[str, str], ...], ...]:
    text = _output_of("nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader")
    keys = ("name", "compute_capability", "driver", "memory")
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()]
    rows = [row for row in rows if len(row) == len(_GPU_FIELDS)]
    chosen = [rows[place] for place in visible_gpus([row[-1] for row in rows])]
    return tuple(tuple(zip(keys, row[:-1], strict=True)) for row in chosen)


def _cpuinfo() -> list[str]:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []


def _darwin_features() -> set[str]:
    names = {"FEAT_BF16": "bf16", "FEAT_FP16": "asimdhp", "FEAT_I8MM": "i8mm"}
    text = _output_of("sysctl", *(f"hw.optional.arm.{name}" for name in names))
    on = {line.split(":")[0].rpartition(".")[2] for line in text.splitlines() if line.endswith("1")}
    return {"asimd"} | {ours for theirs, ours in names.items() if theirs in on}


def _cgroup_quota() -> int | None:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="utf-8").split()[:2]
        return None if quota == "max" else max(1, round(int(quota) / int(period)))
    except (OSError, ValueError):
        return None


def _output_of(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
