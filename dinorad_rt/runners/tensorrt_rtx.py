"""TensorRT-RTX: the code of `runners.tensorrt` under the other package.

It compiles for named GPU generations on any machine; see `runners.tensorrt_targets`.
"""

from __future__ import annotations

from dinorad_rt.runners.tensorrt import TensorRTBackend
from dinorad_rt.runners.tensorrt_flavour import RTX

NAME = RTX.name
_BACKEND = TensorRTBackend(RTX)
is_available = _BACKEND.is_available
plan = _BACKEND.plan
build = _BACKEND.build
load = _BACKEND.load
