"""The native kernel (`engines/native`): the reference's numbers in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from dinorad_rt.errors import MissingPackageError
from dinorad_rt.preprocessing.geometry import Geometry
from dinorad_rt.preprocessing.intensity import GreyMap
from dinorad_rt.preprocessing.reference import ReferenceStatistics

NativeStatistics = ReferenceStatistics


def is_available() -> bool:
    """True if this installation holds the compiled kernel."""
    return False


def require() -> None:
    """Raise MissingPackageError unless the kernel is installed."""
    raise MissingPackageError("not built yet", "")


def preprocess(
    pixels: np.ndarray, mapping: GreyMap, plan: Geometry, target: Any, *, threads: int
) -> None:
    raise NotImplementedError
