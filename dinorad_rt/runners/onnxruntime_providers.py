"""ONNX Runtime's providers: which are here, and with which options a session gets them.

The TensorRT provider is linked to TensorRT 10: with TensorRT 11 it does not load, and the backend
`tensorrt` is the way. Its engines are named by us, because its own names collide between shapes
(onnxruntime#32254), and lie in the engine's folder with a hash like every other file.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dinorad_rt.errors import EngineError
from dinorad_rt.machine import has_gpu
from dinorad_rt.optional import is_installed, version_of
from dinorad_rt.paths import cache_dir

PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
}
INPUT = "pixel_values"
ENGINE_PREFIX = "engine"
TENSORRT_LIBRARY = "libnvinfer.so.10"
_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu13", "tensorrt-cu12")


def cuda_is_here() -> bool:
    """Whether the CUDA provider can run."""
    return version_of("onnxruntime-gpu") is not None and has_gpu()


def check_device(device: str) -> None:
    """Raise unless a session can run on `device`: cpu, cuda or tensorrt.

    Raises:
        EngineError: with what is missing and what to do.
    """
    if device == "cpu" or (device == "cuda" and cuda_is_here()):
        return
    if device == "tensorrt" and cuda_is_here():
        if _has_tensorrt_10():
            return
        found = next((version for name in _DISTRIBUTIONS if (version := version_of(name))), "none")
        raise EngineError(
            f"ONNX Runtime's TensorRT provider needs TensorRT 10 ({TENSORRT_LIBRARY}); installed "
            f"is {found}.",
            "Use --backend tensorrt, which runs TensorRT 10 and 11, or device = 'cuda' in the "
            "profile, or install it: pip install 'tensorrt-cu13<11'",
        )
    raise EngineError(
        f"ONNX Runtime cannot run on {device!r} here; it knows {', '.join(PROVIDERS)}.",
        "Use device = 'cpu' in the profile, or install onnxruntime-gpu where a GPU is.",
    )


def session_providers(
    settings: Mapping[str, Any], folder: Path, batch: int, shape: tuple[int, ...]
) -> list[Any]:
    """What `InferenceSession(providers=...)` takes.

    Args:
        settings: of the engine: `device`, `matrix_type`.
        folder: where the TensorRT provider keeps its engines.
        batch: rows of every call; the TensorRT provider gets this one shape.
        shape: (3, height, width) of one row.
    """
    device = str(settings["device"])
    if device != "tensorrt":
        return [PROVIDERS[device]]
    low = str(settings["matrix_type"])
    only = f"{INPUT}:{'x'.join(map(str, (batch, *shape)))}"
    options = {
        "trt_engine_cache_enable": True,
        "trt_engine_cache_path": str(folder),
        "trt_engine_cache_prefix": ENGINE_PREFIX,
        "trt_timing_cache_enable": True,
        "trt_timing_cache_path": str(cache_dir("timing")),
        # Networks are weakly typed in this provider: without its flag a type is not used at all.
        "trt_fp16_enable": low == "float16",
        "trt_bf16_enable": low == "bfloat16",
        "trt_layer_norm_fp32_fallback": True,
        **{f"trt_profile_{which}_shapes": only for which in ("min", "opt", "max")},
    }
    return [(PROVIDERS["tensorrt"], options), PROVIDERS["cuda"]]


def _has_tensorrt_10() -> bool:
    if any((version_of(name) or "").startswith("10.") for name in _DISTRIBUTIONS):
        if is_installed("tensorrt"):
            import tensorrt  # noqa: F401 - loads its libraries, where ONNX Runtime finds them

        return True
    try:
        ctypes.CDLL(TENSORRT_LIBRARY)
    except OSError:
        return False
    return True
