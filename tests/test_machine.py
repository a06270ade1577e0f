"""Facts of the machine, against what the system tells through others."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import subprocess
from pathlib import Path

import psutil
import pytest

from dinorad_rt import machine


def test_facts_are_plain_and_name_neither_host_nor_user() -> None:
    text = json.dumps(machine.machine_facts())
    assert platform.node() not in text
    if len(getpass.getuser()) > 4:
        assert getpass.getuser() not in text
    assert "/" not in machine.cpu_model()


def test_memory_and_cores() -> None:
    assert machine.memory_gib() == pytest.approx(psutil.virtual_memory().total / 2**30, abs=0.1)
    assert 1 <= machine.usable_cores() <= (os.cpu_count() or 1)


def test_bf16_needs_an_instruction_set(monkeypatch: pytest.MonkeyPatch) -> None:
    table = {
        ("avx2", "f16c", "avx512f"): ("fp32",),
        ("avx512f", "avx512_bf16"): ("fp32", "bf16"),
        ("amx_bf16", "amx_fp16"): ("fp32", "bf16", "fp16"),
        ("asimd", "asimdhp"): ("fp32", "fp16"),
    }
    for sets, precisions in table.items():
        monkeypatch.setattr(machine, "instruction_sets", lambda sets=sets: sets)
        assert machine.cpu_precisions() == precisions


def test_instruction_sets_are_torchs() -> None:
    import torch

    if platform.machine() != "x86_64":
        pytest.skip("PyTorch reports x86 sets only")
    level = torch.backends.cpu.get_cpu_capability()
    assert ("avx2" in machine.instruction_sets()) == (level in ("AVX2", "AVX512"))
    assert ("avx512f" in machine.instruction_sets()) == (level == "AVX512")


def test_hidden_gpu_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    machine._gpus.cache_clear()
    try:
        assert not machine.has_gpu()
        assert machine.gpu_facts() == {}
    finally:
        machine._gpus.cache_clear()


def test_gpus_are_read_from_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (
        "NVIDIA T4, 7.5, 580.1, 15360 MiB, GPU-11\nNVIDIA H200, 9.0, 580.1, 143771 MiB, GPU-22\n"
    )
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    monkeypatch.setattr(machine, "_output_of", lambda *command: lines)
    for visible, capability in ((None, "7.5"), ("1", "9.0"), ("GPU-22,0", "9.0"), ("7", None)):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        machine._gpus.cache_clear()
        try:
            assert machine.has_gpu() == (capability is not None)
            assert machine.gpu_facts().get("compute_capability") == capability
            assert "GPU-" not in str(machine.machine_facts()["gpus"])  # names no machine
        finally:
            machine._gpus.cache_clear()


@pytest.mark.parametrize(
    ("variable", "places"),
    [
        ("0,1", [0, 1]),
        ("1, 0", [1, 0]),
        ("GPU-b", [1]),
        ("1,-1,0", [1]),
        ("0,5,1", [0]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("MIG-4f1c", [0, 1]),
    ],
)
def test_visible_gpus_are_those_of_cuda(
    monkeypatch: pytest.MonkeyPatch, variable: str, places: list[int]
) -> None:
    """As the CUDA C++ Programming Guide says of CUDA_VISIBLE_DEVICES."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    assert machine.visible_gpus(["GPU-a1", "GPU-b2"], ["NVIDIA T4"] * 2) == places


DRIVER = """
static int order[] = {1, 0};
int cuInit(unsigned flags) { return 0; }
int cuDeviceGetCount(int *count) { *count = getenv("CUDA_VISIBLE_DEVICES") ? 1 : 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = order[index]; return 0; }
int cuDeviceGetUuid(unsigned char *uuid, int device) {
  for (int i = 0; i < 16; i++) uuid[i] = device ? 0x22 : 0x11;
  return 0;
}
"""


def test_of_two_kinds_of_gpus_the_first_is_cudas_and_not_the_drivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A small one for the screen on the first slot, the fast one on the second."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler")
    (tmp_path / "cuda.c").write_text("#include <stdlib.h>\n" + DRIVER)
    words = [compiler, "-shared", "-fPIC", "-o", "libcuda.so.1", "cuda.c"]
    subprocess.run(words, cwd=tmp_path, check=True)
    uuids = ["GPU-11111111-1111-1111-1111-111111111111", "GPU-22222222-2222-2222-2222-222222222222"]
    names = ["NVIDIA T400", "NVIDIA H200"]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path))
    machine._cuda_uuids.cache_clear()
    assert machine.visible_gpus(uuids, names) == [1, 0]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    assert machine.visible_gpus(uuids, names) == [1]  # number 0 of CUDA
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    assert machine.visible_gpus(uuids, names) == [0]
    monkeypatch.delenv("CUDA_DEVICE_ORDER")
    monkeypatch.setenv("LD_LIBRARY_PATH", str(tmp_path / "nothing"))
    machine._cuda_uuids.cache_clear()
    assert machine.visible_gpus(uuids, names) == [0]  # no driver to ask: as it is written
    machine._cuda_uuids.cache_clear()
