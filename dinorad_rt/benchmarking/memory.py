"""Memory of this process and of the GPU, in MB, at one moment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from dinorad_rt.benchmarking.nvml import ask_nvml


def read_memory() -> dict[str, float | None]:
    """What this process holds now and held at most, and what the first visible GPU holds.

    Returns:
        `resident`, `peak` and `gpu` in MB; `gpu` counts every process and is None without one.
    """
    return {"resident": resident_mb(), "peak": peak_mb(), "gpu": gpu_mb()}


def resident_mb() -> float:
    """Memory of this process that is in use now; its peak where the system tells no more."""
    import resource

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return peak_mb()
    return pages * resource.getpagesize() / 1e6


def peak_mb() -> float:
    """The most memory that this process ever held.

    Linux hands `ru_maxrss` on to a started process, so that a small child of a large parent would
    report the parent's peak; the high-water mark of its own memory starts anew.
    """
    import resource

    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    except OSError:
        scale = 1e6 if sys.platform == "darwin" else 1e3
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / scale
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return float(line.split()[1]) * 1024 / 1e6


def gpu_mb() -> float | None:
    """Memory of the first visible GPU that any process took; None without a readable GPU."""
    return ask_nvml(_used_mb, None)


def _used_mb(pynvml: Any, handle: Any) -> float | None:
    return float(pynvml.nvmlDeviceGetMemoryInfo(handle).used) / 1e6
