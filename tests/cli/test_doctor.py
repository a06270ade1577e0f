"""What `doctor` says of GPUs, limits of containers, shared memory and the cache."""

from __future__ import annotations

import os
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from dinorad_rt import machine
from dinorad_rt.cli import doctor

Usage = namedtuple("Usage", "total used free")
ROWS = [
    ["NVIDIA T400", "7.5", "580.1", "2048 MiB", "GPU-11"],
    ["NVIDIA H200", "9.0", "580.1", "143771 MiB", "GPU-22"],
]


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`gpus(rows, CUDA_VISIBLE_DEVICES="1")`: what the driver has, and what is set."""
    monkeypatch.setattr(machine, "_cuda_uuids", lambda visible: [])

    def pretend(rows: list[list[str]], **variables: str) -> list[doctor.Check]:
        for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(machine, "_driver_rows", lambda: rows)
        machine._gpus.cache_clear()
        try:
            return doctor._gpu_checks()
        finally:
            machine._gpus.cache_clear()

    return pretend


def test_the_gpu_that_is_meant_is_named_with_what_chose_it(gpus: Any) -> None:
    assert gpus([]) == []
    (alone,) = gpus(ROWS[1:])
    assert (alone["level"], alone["found"]) == ("ok", "NVIDIA H200, of 1 GPU")
    (chosen,) = gpus(ROWS, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID")
    assert chosen["found"] == (
        "NVIDIA H200, of 2 GPUs (CUDA_VISIBLE_DEVICES='1', CUDA_DEVICE_ORDER='PCI_BUS_ID')"
    )
    (mixed,) = gpus(ROWS)
    assert "CUDA counts from the fastest, nvidia-smi by the bus" in mixed["found"]
    assert "GPU-22" not in mixed["found"]  # names no machine


def test_gpus_that_are_all_hidden_are_told(gpus: Any) -> None:
    (hidden,) = gpus(ROWS, CUDA_VISIBLE_DEVICES="7")
    assert hidden["level"] == "note"
    assert hidden["found"] == "CUDA sees none of 2 GPUs (CUDA_VISIBLE_DEVICES='7')"
    assert hidden["fix"].startswith("unset CUDA_VISIBLE_DEVICES")


def test_limits_of_a_container_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    monkeypatch.setattr(machine, "usable_cores", lambda: 16)
    monkeypatch.setattr(machine, "physical_bytes", lambda: 64 << 30)
    monkeypatch.setattr(machine, "memory_limit", lambda: None)
    assert doctor._limit_checks() == []
    monkeypatch.setattr(machine, "usable_cores", lambda: 2)
    monkeypatch.setattr(machine, "memory_limit", lambda: 4 << 30)
    (check,) = doctor._limit_checks()
    assert check["found"] == "2 of 16 cores, 4.0 of 64.0 GiB of memory"


def test_the_shared_memory_of_a_container_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sizes = {doctor.SHARED_MEMORY: 64e6}
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(sizes[path], 0, 0))
    (check,) = doctor._shared_memory_checks()
    assert check["level"] == "note" and "/dev/shm has 64 MB" in check["found"]
    assert "--shm-size" in check["fix"]
    sizes[doctor.SHARED_MEMORY] = 8e9
    assert doctor._shared_memory_checks() == []
    monkeypatch.undo()
    monkeypatch.setattr(doctor, "SHARED_MEMORY", tmp_path / "none")
    assert doctor._shared_memory_checks() == []


@pytest.mark.parametrize(
    ("free", "level", "found"),
    [(80e9, "ok", "80 GB free"), (3.2e9, "note", "3.2 GB free"), (1e8, "problem", "0.1 GB free")],
)
def test_a_cache_that_is_nearly_full_is_told(
    monkeypatch: pytest.MonkeyPatch, cache: Path, free: float, level: str, found: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, free))
    check = doctor._cache_check()
    assert check["level"] == level and found in check["found"]
    assert ("prune" in check["fix"]) == (level != "ok")


def test_a_cache_that_may_only_be_read_is_told(
    monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    (cache / "graphs").mkdir(parents=True)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "graphs")
    check = doctor._cache_check()
    assert check["level"] == "problem" and "may not write to its graphs;" in check["found"]
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    check = doctor._cache_check()
    assert "may not write to it;" in check["found"] and "DINORAD_RT_CACHE" in check["fix"]
