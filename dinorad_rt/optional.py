"""The one place that imports optional packages, each late and with its install command."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
from types import ModuleType

from dinorad_rt.errors import MissingPackageError

EXTRA_OF: dict[str, str] = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "pycuda": "pycuda",
    "ray": "ray",
    "onnxruntime": "cpu",
    "mlflow": "mlflow",
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "nncf": "int8",
    "accelerate": "train",
    "peft": "train",
    "einops": "train",
    "highdicom": "train",
    "monai": "train",
}
"""Import name of an optional package → the extra of dinorad-rt that installs it."""

_INSTALLED_AS = {"PIL": "pillow", "nrrd": "pynrrd", "sklearn": "scikit-learn"}
"""Import name of a package → what pip calls it, where these differ."""


def require(module: str, purpose: str) -> ModuleType:
    """Import `module`, or say what needs it and how to install it.

    Args:
        module: import name; a dotted name imports the sub-module.
        purpose: what it is needed for, such as "reading DICOM".

    Raises:
        MissingPackageError: the package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        root = module.split(".")[0]
        if error.name is None or error.name.split(".")[0] != root:
            raise
        raise missing(root, purpose) from error


def missing(package: str, purpose: str) -> MissingPackageError:
    """The error for a package that is not installed, with the command that installs it."""
    extra = EXTRA_OF.get(package)
    target = f"dinorad-rt[{extra}]" if extra else _INSTALLED_AS.get(package, package)
    return MissingPackageError(
        f"{purpose} needs the package {package}, which is not installed.",
        f"Install it: pip install '{target}'",
    )


def is_installed(module: str) -> bool:
    """True if `module` could be imported; imports nothing."""
    return importlib.util.find_spec(module) is not None


def version_of(distribution: str) -> str | None:
    """Version of an installed distribution, or None."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
