"""Two processes joined by accelerate, against one that accumulates."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

SCRIPT = Path(__file__).with_name("several_processes.py")


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batches(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    launch = [*("-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"), SCRIPT]
    for words, out, accumulate in ((launch, "two", "1"), ([SCRIPT], "one", "2")):
        command = [sys.executable, *map(str, words), str(tmp_path / out), accumulate]
        subprocess.run(command, check=True, capture_output=True, env=environment)
    found = [load_file(tmp_path / f"two/rank{rank}.safetensors") for rank in (0, 1)]
    wanted = load_file(tmp_path / "one/rank0.safetensors")
    for name, tensor in wanted.items():
        torch.testing.assert_close(found[0][name], tensor)
        assert torch.equal(found[0][name], found[1][name])
