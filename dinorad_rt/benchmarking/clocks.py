"""Clock rates and throttling at one moment, so that a report can say what the machine did."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from dinorad_rt.benchmarking.nvml import ask_nvml

_CPUFREQ = Path("/sys/devices/system/cpu")


def read_clocks() -> dict[str, Any]:
    """Clocks in MHz, temperatures in °C and reasons for throttling, as far as readable.

    Returns:
        `cpu_mhz` (median over cores) or None; `gpus`: the first visible one, if any, with `sm_mhz`,
        `memory_mhz`, `temperature_c`, `throttle` (names of active reasons).
    """
    return {"cpu_mhz": _cpu_mhz(), "gpus": _gpus()}


def _cpu_mhz() -> float | None:
    rates = []
    for path in _CPUFREQ.glob("cpu[0-9]*/cpufreq/scaling_cur_freq"):
        try:
            rates.append(float(path.read_text()) / 1e3)
        except (OSError, ValueError):
            continue
    if not rates:
        try:
            lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        except OSError:
            return None
        rates = [float(line.split(":")[1]) for line in lines if line.startswith("cpu MHz")]
    return statistics.median(rates) if rates else None


def _gpus() -> list[dict[str, Any]]:
    return ask_nvml(lambda pynvml, handle: [_gpu(pynvml, handle)], [])


def _gpu(pynvml: Any, handle: Any) -> dict[str, Any]:
    reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
    names = {
        name.removeprefix("nvmlClocksThrottleReason"): getattr(pynvml, name)
        for name in dir(pynvml)
        if name.startswith("nvmlClocksThrottleReason")
    }
    idle = ("None", "GpuIdle", "All")
    return {
        "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
        "throttle": [
            name
            for name, bit in names.items()
            if isinstance(bit, int) and reasons & bit and name not in idle
        ],
    }
