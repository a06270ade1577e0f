"""Facts of this machine that decide speed and numbers: no host name, no user, no path."""

from __future__ import annotations

import functools
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dinorad_rt.cgroups import cpu_quota, memory_limit
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
    quota = cpu_quota()
    return max(1, min(cores, round(quota))) if quota else cores


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
    """Memory in GiB that this process may hold, rounded to 0.1: the machine's, or its container's.

    0 where the system does not tell.
    """
    total = physical_bytes()
    return round(min(total, memory_limit() or total) / 2**30, 1)


def physical_bytes() -> int:
    """Memory of the machine; 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return 0


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


def driver_gpus() -> list[dict[str, str]]:
    """Every GPU that the driver has, in its order, visible or not: as `gpu_facts`."""
    return [_facts_of(row) for row in _driver_rows()]


def visible_gpus(uuids: Sequence[str], names: Sequence[str]) -> list[int]:
    """Places of the GPUs that are visible to CUDA, in its order: the first is cuda:0.

    CUDA_VISIBLE_DEVICES chooses. CUDA counts from the fastest GPU, the driver by the bus: where a
    machine has several kinds, and CUDA_DEVICE_ORDER=PCI_BUS_ID does not say otherwise, CUDA itself
    is asked. Parts of a GPU (MIG) are not listed by the driver, so with them every GPU counts.

    Args:
        uuids, names: of all GPUs, in the order of the driver.
    """
    if len(set(names)) > 1 and os.environ.get("CUDA_DEVICE_ORDER") != "PCI_BUS_ID":
        asked = _cuda_uuids(os.environ.get("CUDA_VISIBLE_DEVICES"))
        if asked:
            return [uuids.index(uuid) for uuid in asked if uuid in uuids]
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


_CUDA_ORDER = """
import ctypes, uuid
cuda = ctypes.CDLL("libcuda.so.1")
assert cuda.cuInit(0) == 0
count = ctypes.c_int()
cuda.cuDeviceGetCount(ctypes.byref(count))
for index in range(count.value):
    device, name = ctypes.c_int(), (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGet(ctypes.byref(device), index)
    cuda.cuDeviceGetUuid(name, device)
    print(f"GPU-{uuid.UUID(bytes=bytes(name))}")
"""
"""For a process of its own: CUDA reads its variables once, and does not survive a fork."""


@functools.cache
def _cuda_uuids(visible: str | None) -> list[str]:
    """What CUDA counts with this CUDA_VISIBLE_DEVICES; empty where it cannot be asked."""
    return _output_of(sys.executable, "-I", "-S", "-c", _CUDA_ORDER).split()


@functools.cache
def _gpus() -> tuple[tuple[tuple[str, str], ...], ...]:
    rows = _driver_rows()
    chosen = [rows[at] for at in visible_gpus([r[-1] for r in rows], [r[0] for r in rows])]
    return tuple(tuple(_facts_of(row).items()) for row in chosen)


def _driver_rows() -> list[list[str]]:
    text = _output_of("nvidia-smi", f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader")
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines()]
    return [row for row in rows if len(row) == len(_GPU_FIELDS)]


def _facts_of(row: Sequence[str]) -> dict[str, str]:
    keys = ("name", "compute_capability", "driver", "memory")
    return dict(zip(keys, row[:-1], strict=True))


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


def _output_of(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return ""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
