"""The backends by name, and the way from an engine to its runner."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from dinorad_rt.errors import BackendMissingError, CacheError, unknown_name
from dinorad_rt.paths import cache_dir
from dinorad_rt.runners.base import AbstractRunner, Availability, Backend

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine

LISTING = "dinorad-rt list backends"

_MODULES: dict[str, str] = {
    "openvino": "dinorad_rt.runners.openvino",
    "onnxruntime": "dinorad_rt.runners.onnxruntime",
    "pytorch": "dinorad_rt.runners.pytorch",
    "inductor": "dinorad_rt.runners.inductor",
    "tensorrt": "dinorad_rt.runners.tensorrt",
    "tensorrt-rtx": "dinorad_rt.runners.tensorrt_rtx",
}


def backend_names() -> tuple[str, ...]:
    """Every backend that this version knows, installed or not."""
    return tuple(_MODULES)


def get_backend(name: str) -> Backend:
    """The module of a backend.

    Raises:
        UnknownNameError: no such backend.
    """
    known = name.replace("_", "-")
    if known not in _MODULES:
        raise unknown_name("backend", name, ("auto", *_MODULES), LISTING)
    return cast("Backend", importlib.import_module(_MODULES[known]))


def list_backends() -> tuple[Availability, ...]:
    """What each backend can do on this machine."""
    return tuple(get_backend(name).is_available() for name in _MODULES)


def require_backend(name: str) -> Backend:
    """The module of a backend that can build and run here.

    Raises:
        UnknownNameError: no such backend.
        BackendMissingError: it is not installed, or this machine cannot run it.
    """
    backend = get_backend(name)
    state = backend.is_available()
    if not (state.can_build and state.can_run):
        fix = f"See what runs here: {LISTING}"
        if state.can_build:
            fix = "Build for other machines with --targets"
        elif state.install and "no GPU" not in state.reason:
            fix = f"Install it: {state.install}"
        raise BackendMissingError(
            f"The backend {name} cannot be used here: {state.reason or 'it is not installed'}.",
            f"{fix}, or let --backend auto choose.",
        )
    return backend


def open_runner(engine: Engine) -> AbstractRunner:
    """The runner of an engine, after its files were compared with their SHA-256.

    Loads nothing yet: use it as a context manager.

    Raises:
        CacheError: the engine lies outside this user's cache, or a file is not what the manifest
            says.
        BackendMissingError: the engine's backend is not installed here, or in another version.
    """
    home = cache_dir("engines").resolve()
    if engine.folder.resolve().parent != home:
        raise CacheError(
            f"The engine {engine.folder.name[:12]}… does not lie in this user's cache. An engine "
            "is code: only what was built here is run.",
            "Build it here from its graph: dinorad-rt build --graph FOLDER",
        )
    backend = require_backend(engine.backend)
    built_with, here = engine.manifest["backend_version"], backend.is_available().version
    if built_with != here:
        raise BackendMissingError(
            f"The engine was built by {engine.backend} {built_with}; here is {here}.",
            "Build it again: dinorad-rt build",
        )
    engine.verify()
    return backend.load(engine)
