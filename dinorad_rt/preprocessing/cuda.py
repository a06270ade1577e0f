"""The kernel on an NVIDIA GPU: pixels are copied there once, and the row is made in place.

In installations built with `-DDINORAD_CUDA=ON` only; elsewhere `is_available` is False. Percentiles
and extrema, which some rules need beforehand, are still found on the CPU.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from dinorad_rt.errors import MissingPackageError
from dinorad_rt.preprocessing import native
from dinorad_rt.preprocessing.geometry import Geometry
from dinorad_rt.preprocessing.intensity import GreyMap


def is_built() -> bool:
    """True if the compiled module of this installation holds the CUDA kernel."""
    return native.is_available() and hasattr(native.require(), "cuda_preprocess")


def is_available() -> bool:
    """True if the CUDA kernel was built, and a GPU with its driver is here."""
    return is_built() and native.require().cuda_devices() > 0


def require() -> Any:
    """The compiled module, with its CUDA functions.

    Raises:
        MissingPackageError: they were not built, or there is no GPU.
    """
    if not is_built():
        raise MissingPackageError(
            "Preprocessing on the GPU was asked for, but this installation of dinorad-rt was "
            "built without it.",
            "With nvcc installed, in a checkout: pip install -e . -C cmake.define.DINORAD_CUDA=ON",
        )
    if not is_available():
        raise MissingPackageError(
            "Preprocessing on the GPU was asked for, but no NVIDIA GPU with a driver is here.",
            "See nvidia-smi; or preprocess on the CPU (implementation='native').",
        )
    return native.require()


def preprocess(
    pixels: np.ndarray,
    mapping: GreyMap,
    plan: Geometry,
    out: Any,
    normalisation: tuple[tuple[float, ...], tuple[float, ...]],
    *,
    stream: int = 0,
) -> None:
    """Stored values → normalised channels in GPU memory, enqueued on a stream.

    Args:
        pixels, mapping, plan, normalisation: as `native.preprocess`; free for other use when the
            call returns.
        out: (channels, size, size) on the GPU, contiguous: float32, float16 or bfloat16; anything
            with DLPack, such as a row of a torch tensor.
        stream: CUDA stream handle; 0 for the default one.
    """
    low, high, padding = native.edges_of(mapping)
    require().cuda_preprocess(
        native.suited(pixels, mapping),
        (low, high),
        padding,
        mapping.table,
        mapping.first,
        *_packed(plan, _device_of(out)),
        out,
        *normalisation,
        mapping.stretch,
        stream,
    )


def _device_of(out: Any) -> int:
    return int(out.__dlpack_device__()[1])


@lru_cache(maxsize=64)
def _packed(plan: Geometry, device: int) -> tuple[Any, Any]:
    """Taps of both axes in the memory of a device."""
    module = require()
    rows, columns = native.packed(plan)
    return module.DeviceAxis(rows, device), module.DeviceAxis(columns, device)
