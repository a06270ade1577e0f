"""Freed buffers stay: the kernel's own count of page faults says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import numpy as np
from dinorad_rt.studies.malloc import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(50):
        first, second = (np.ones(1 << 20, np.uint8) for _ in range(2))
        del first, second
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

done = keep_freed_memory()
faults()
print(int(done), faults())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_buffers_are_not_faulted_in_again() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    done, faults = map(int, run.stdout.split())
    if not done:
        pytest.skip("the C library is not glibc")
    assert faults < 500  # giving the buffers back would cost 50 × 2 × 256 pages
