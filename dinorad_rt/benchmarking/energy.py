"""Energy over a window: RAPL where the system lets us read it, and the GPU's cumulative counter.

Counters are read at both ends of the window, never sampled: one sample of the power draw tells of
the window before.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinorad_rt.benchmarking.nvml import ask_nvml

RAPL = Path("/sys/class/powercap")
MOST_WATTS = 5000.0
"""Of one counter: one that fell from further below its limit did not wrap."""


@dataclass
class Energy:
    """What a window cost.

    Attributes:
        joules: by source; empty if no counter can be read.
        seconds: length of the window.
        reason: why a counter is missing, for the report.
    """

    joules: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    reason: str = ""

    def per_image(self, images: int) -> dict[str, float]:
        """Joules per image, by source."""
        return {name: value / images for name, value in self.joules.items()}

    def facts(self, images: int) -> dict[str, Any]:
        """`joules_per_image`, and `energy_note`: why a counter is missing."""
        return {"joules_per_image": self.per_image(images), "energy_note": self.reason}


@contextmanager
def measure_energy() -> Iterator[Energy]:
    """Measure the block; the yielded record is filled when it ends."""
    energy = Energy()
    before = _counters(energy)
    start = time.perf_counter()
    yield energy
    energy.seconds = time.perf_counter() - start
    after = _counters(energy)
    for name, (value, limit) in after.items():
        if name not in before:
            continue
        used = value - before[name][0]
        if used < 0 and limit - before[name][0] > MOST_WATTS * max(1.0, energy.seconds):
            energy.reason = f"the counter {name} began anew meanwhile, as after a suspend"
            continue
        energy.joules[name] = used if used >= 0 else used + limit


def _counters(energy: Energy) -> dict[str, tuple[float, float]]:
    """Counter name → (joules so far, value at which it wraps)."""
    found = _nvml() | _rapl()
    if not found:
        energy.reason = "no NVIDIA GPU counter and no readable RAPL counter on this machine"
    return found


def _rapl() -> dict[str, tuple[float, float]]:
    found = {}
    for zone in sorted(RAPL.glob("*-rapl:*")) if RAPL.is_dir() else ():
        if zone.name.count(":") > 1:  # sub-zones are contained in their package
            continue
        try:
            value = float((zone / "energy_uj").read_text()) / 1e6
            limit = float((zone / "max_energy_range_uj").read_text()) / 1e6
            found[(zone / "name").read_text().strip()] = (value, limit)
        except (OSError, ValueError):
            continue
    return found


def _nvml() -> dict[str, tuple[float, float]]:
    return ask_nvml(_gpu_energy, {})


def _gpu_energy(pynvml: Any, handle: Any) -> dict[str, tuple[float, float]]:
    return {"gpu": (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3, float("inf"))}
