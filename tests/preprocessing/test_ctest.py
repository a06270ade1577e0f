"""The C++ tests of `engines/native`, built and run as its README says; with CUDA where nvcc is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parents[2]
NVCC = shutil.which("nvcc")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler here"),
]


def built_and_tested(folder: Path, *options: str) -> str:
    """Output of ctest after configuring and building into a folder."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = os.environ | {"PATH": path}
    outputs = []
    for command in (
        ["cmake", "-S", str(CHECKOUT), "-B", str(folder), "-DDINORAD_PYTHON=OFF", *options],
        ["cmake", "--build", str(folder), "--parallel", "2"],
        ["ctest", "--test-dir", str(folder), "--output-on-failure", "--no-tests=error"],
    ):
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        outputs.append(done.stdout)
    return outputs[-1]


@pytest.mark.skipif(shutil.which("cmake") is None, reason="no CMake here")
@pytest.mark.parametrize("options", [(), ("-DCMAKE_CXX_FLAGS=-DDINORAD_SCALAR",)], ids=str)
def test_the_cpu_kernels(tmp_path: Path, options: tuple[str, ...]) -> None:
    output = built_and_tested(tmp_path, *options)
    for name in ("kernel_test", "cases_test"):
        assert name in output
    assert "100% tests passed" in output


@pytest.mark.skipif(NVCC is None, reason="no nvcc here")
def test_the_cuda_kernel_compiles_and_its_test_passes_or_is_skipped(tmp_path: Path) -> None:
    """Without a GPU this proves that it compiles and links, and that no device is no crash."""
    output = built_and_tested(tmp_path, "-DDINORAD_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=80")
    assert "cuda_test" in output and "100% tests passed" in output
