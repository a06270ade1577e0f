"""The machine's own ceiling: the best matrix product it can do, measured in the same run.

Measured in a fresh process, so that no other runtime's threads spin on the same cores.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Any

from dinorad_rt.errors import EngineError
from dinorad_rt.words import ending_words

SIZES = {"cpu": (1024, 2048, 4096), "cuda": (4096, 8192, 16384)}
SECONDS_PER_SIZE = 1.0


@dataclass(frozen=True)
class Ceiling:
    """The best matrix product found.

    Attributes:
        device: cpu or cuda.
        precision: fp32, fp16, bf16 or int8.
        tflops: 10¹² floating-point operations a second, multiply and add counted as two.
        size: side of the square matrices that reached it.
    """

    device: str
    precision: str
    tflops: float
    size: int

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def measure_ceiling(precision: str, device: str = "cpu", threads: int = 0) -> Ceiling:
    """Measure the best matrix product on a device, in a process of its own.

    PyTorch's; for FP32 on a processor NumPy's as well, whose library may be the faster one.

    Args:
        precision: fp32, fp16, bf16 or int8; `mixed` counts as fp16.
        device: cpu or cuda.
        threads: processor threads; 0 for all.

    Raises:
        EngineError: the device cannot do it; the message holds its words.
    """
    words = ["-m", "dinorad_rt.benchmarking.ceiling", precision, device, str(threads)]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    if done.returncode:
        ending = f"its process {ending_words(done.returncode)}"
        last = done.stderr.strip().splitlines()[-1:] if done.returncode > 0 else []
        raise EngineError(
            f"The {precision} matrix product on {device} could not be measured: "
            f"{(last or [ending])[0]}"
        )
    return Ceiling(**json.loads(done.stdout.splitlines()[-1]))


def _measure(precision: str, device: str, threads: int) -> Ceiling:
    import torch

    if threads:
        torch.set_num_threads(threads)
    names = {"fp32": "float32", "fp16": "float16", "mixed": "float16", "bf16": "bfloat16"}
    dtype = getattr(torch, names.get(precision, precision))
    multiplications: list[Any] = [torch._int_mm if precision == "int8" else torch.matmul]
    if (device, precision) == ("cpu", "fp32"):  # on AMD PyTorch's library takes slower kernels
        multiplications.append(lambda left, right: left.numpy() @ right.numpy())
    best = Ceiling(device, precision, 0.0, 0)
    for size in SIZES[device]:
        matrices = [(50 * torch.randn(size, size, device=device)).to(dtype) for _ in range(2)]
        seconds = min(_best_seconds(multiply, *matrices) for multiply in multiplications)
        tflops = 2 * size**3 / seconds / 1e12
        if tflops > best.tflops:
            best = Ceiling(device, precision, tflops, size)
    return best


def _best_seconds(multiply: Any, left: Any, right: Any) -> float:
    import time

    import torch

    def synchronise() -> None:
        if left.is_cuda:
            torch.cuda.synchronize()

    multiply(left, right)
    synchronise()
    best = float("inf")
    end = time.perf_counter() + SECONDS_PER_SIZE
    while time.perf_counter() < end:
        start = time.perf_counter()
        multiply(left, right)
        synchronise()
        best = min(best, time.perf_counter() - start)
    return best


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3])).as_dict()))
