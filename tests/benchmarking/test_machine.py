"""Ceiling, energy, clocks and memory: against planted counters and NumPy."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from dinorad_rt.benchmarking import ceiling, clocks, energy, memory
from dinorad_rt.benchmarking.ceiling import SIZES, measure_ceiling
from dinorad_rt.errors import EngineError

IS_INSTALLED = "dinorad_rt.benchmarking.nvml.is_installed"


class StandInNvml(SimpleNamespace):
    """Two GPUs; the second burns 50 J between two looks, throttled by its power limit."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
    nvmlClocksThrottleReasonGpuIdle = 1
    nvmlClocksThrottleReasonSwPowerCap = 4
    NVMLError = RuntimeError

    def __init__(self) -> None:
        super().__init__()
        self.millijoules = 1_000_000

    def nvmlInit(self) -> None:
        """Nothing to start."""

    nvmlShutdown = nvmlInit

    def nvmlDeviceGetCount(self) -> int:
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: int) -> str:
        return ("NVIDIA T400", "NVIDIA H200")[handle]

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        self.millijoules += 50_000 * handle
        return self.millijoules

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: int) -> int:
        return 5

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        return 1980 if kind == 1 else 2619

    def nvmlDeviceGetTemperature(self, handle: int, kind: int) -> int:
        return 41

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(used=3_000_000_000 * handle)


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> StandInNvml:
    """The package pynvml, without a GPU behind it."""
    stand_in = StandInNvml()
    monkeypatch.setitem(sys.modules, "pynvml", stand_in)
    monkeypatch.setattr(IS_INSTALLED, lambda name: name == "pynvml")
    return stand_in


def test_gpu_counters_are_read_at_both_ends(
    nvml: StandInNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with energy.measure_energy() as window:
        pass
    assert window.joules == {"gpu": 50.0}
    assert window.facts(25) == {"joules_per_image": {"gpu": 2.0}, "energy_note": ""}
    assert clocks.read_clocks()["gpus"] == [
        {"sm_mhz": 1980, "memory_mhz": 2619, "temperature_c": 41, "throttle": ["SwPowerCap"]}
    ]
    assert memory.gpu_mb() == 3000.0
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert memory.gpu_mb() is None and clocks.read_clocks()["gpus"] == []


def test_the_counters_are_those_of_cudas_first_gpu(
    nvml: StandInNvml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """NVML counts by the bus, CUDA from the fastest: they meet by the UUID."""
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setattr("dinorad_rt.machine._cuda_uuids", lambda visible: ["GPU-1", "GPU-0"])
    assert memory.gpu_mb() == 3000.0
    with energy.measure_energy() as window:
        pass
    assert window.joules == {"gpu": 50.0}


def test_rapl_is_read_and_its_wrap_undone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zone, inner = tmp_path / "intel-rapl:0", tmp_path / "intel-rapl:0:0"
    for folder in (zone, inner):
        folder.mkdir()
        (folder / "name").write_text("package-0\n")
        (folder / "max_energy_range_uj").write_text("262143000000\n")
        (folder / "energy_uj").write_text("262142000000\n")
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    monkeypatch.setattr(IS_INSTALLED, lambda name: False)
    with energy.measure_energy() as window:
        (zone / "energy_uj").write_text("9000000\n")
    assert window.joules == {"package-0": pytest.approx(10.0)}
    assert window.reason == ""


def test_a_counter_that_began_anew_is_left_out(
    nvml: StandInNvml, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zone = tmp_path / "intel-rapl:0"
    zone.mkdir()
    (zone / "name").write_text("package-0\n")
    (zone / "max_energy_range_uj").write_text("262143000000\n")
    (zone / "energy_uj").write_text("90000000000\n")
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    with energy.measure_energy() as window:
        (zone / "energy_uj").write_text("1000000\n")
        nvml.millijoules = 0  # the driver was loaded again
    assert window.joules == {}
    assert "began anew" in window.reason


def test_without_a_counter_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "RAPL", tmp_path)
    monkeypatch.setattr(IS_INSTALLED, lambda name: False)
    with energy.measure_energy() as window:
        pass
    assert window.joules == {} and "no readable RAPL counter" in window.reason


def test_memory_is_what_psutil_sees() -> None:
    assert memory.resident_mb() == pytest.approx(psutil.Process().memory_info().rss / 1e6, rel=0.05)
    before = memory.resident_mb()
    with mmap.mmap(-1, 200_000_000) as block:  # the heap may hold what other tests have freed
        np.frombuffer(block, np.uint8)[:] = 1
        assert memory.resident_mb() - before == pytest.approx(200, abs=20)
    assert memory.peak_mb() >= before + 180


def test_a_small_child_of_a_large_parent_reports_its_own_peak() -> None:
    block = np.ones(50_000_000)  # 400 MB
    code = "from dinorad_rt.benchmarking.memory import peak_mb; print(peak_mb())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 200 < block.nbytes / 1e6


def test_the_ceiling_is_measured_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    before = torch.get_num_threads()
    found = measure_ceiling("fp32", threads=1)
    assert torch.get_num_threads() == before
    assert (found.device, found.precision) == ("cpu", "fp32")
    assert 0.001 < found.tflops < 50 and found.size in SIZES["cpu"]
    monkeypatch.setattr(ceiling.sys, "executable", "false")
    with pytest.raises(EngineError, match="could not be measured: its process ended with"):
        measure_ceiling("fp32")
    killed = SimpleNamespace(returncode=-9, stdout="", stderr="a warning on the way\n")
    monkeypatch.setattr(ceiling.subprocess, "run", lambda *_, **__: killed)
    with pytest.raises(EngineError, match="its process was killed, most often because memory"):
        measure_ceiling("fp32")
