"""Profiles: how an engine is to be shaped on a machine, read from `engines/profiles/*.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dinorad_rt.errors import EngineError, unknown_name
from dinorad_rt.paths import recipe_dir

LISTING = "dinorad-rt list profiles"
MAX_BATCH = 4096


@dataclass(frozen=True)
class Profile:
    """Shapes and resources of an engine.

    Attributes:
        name: file name under `engines/profiles` without its suffix.
        about: one sentence for listings.
        batch: rows per call. Backends with a static batch pad the tail to it; those with a
            dynamic one never run more.
        buckets: batch sizes that a backend with several shapes per engine prepares (TensorRT's
            optimisation profiles); ascending, the last one is `batch`.
        streams: calls in flight at once; 0 lets the backend take what measures best here.
        threads: processor threads in all; 0 means every usable core.
        options: backend name → its own build options.
    """

    name: str
    about: str = ""
    batch: int = 8
    buckets: tuple[int, ...] = ()
    streams: int = 0
    threads: int = 0
    options: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            EngineError: a batch, bucket, stream or thread count that no backend can use.
        """
        if not self.buckets:
            object.__setattr__(self, "buckets", (self.batch,))
        _check(self)

    def options_for(self, backend: str) -> dict[str, Any]:
        """The build options of one backend, with `-` and `_` alike in its name."""
        wanted = backend.replace("-", "_")
        for name, values in self.options.items():
            if name.replace("-", "_") == wanted:
                return dict(values)
        return {}

    def as_dict(self, backend: str | None = None) -> dict[str, Any]:
        """Plain values; with `backend`, only what that backend's engine depends on."""
        options = {name: dict(values) for name, values in self.options.items()}
        if backend is not None:
            options = {backend: self.options_for(backend)}
        return {
            "name": self.name,
            "batch": self.batch,
            "buckets": list(self.buckets),
            "streams": self.streams,
            "threads": self.threads,
            "options": options,
        }


def load_profile(name: str = "default") -> Profile:
    """Read a profile by name, or from a TOML file of the user's own.

    Args:
        name: one of `list_profiles()`, or a path that ends in `.toml`.

    Raises:
        UnknownNameError: no such profile.
        EngineError: the file is no TOML, or holds an unknown key or a bad value.
    """
    path = Path(name) if name.endswith(".toml") else _folder() / f"{name}.toml"
    if not path.is_file():
        raise unknown_name("profile", name, (item.name for item in list_profiles()), LISTING)
    return _read(path)


def list_profiles() -> tuple[Profile, ...]:
    """Every shipped profile, by name."""
    return tuple(_read(path) for path in sorted(_folder().glob("*.toml")))


def _folder() -> Path:
    return recipe_dir("engines") / "profiles"


def _read(path: Path) -> Profile:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EngineError(
            f"The profile {path.name} is no valid TOML: {error}.",
            "Compare it with engines/README.md, or take a shipped one: dinorad-rt list profiles",
        ) from error
    allowed = ("about", "batch", "buckets", "streams", "threads", "options")
    unknown = sorted(set(values) - set(allowed))
    if unknown:
        raise EngineError(
            f"The profile {path.name} holds {', '.join(unknown)}.",
            f"Allowed are: {', '.join(allowed)}.",
        )
    if isinstance(values.get("buckets"), list):
        values["buckets"] = tuple(values["buckets"])
    return Profile(name=path.stem, **values)


def _check(profile: Profile) -> None:
    where = f"The profile {profile.name}"
    limits = {"batch": (1, MAX_BATCH), "streams": (0, 1024), "threads": (0, 4096)}
    for key, (low, high) in limits.items():
        value = getattr(profile, key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise EngineError(
                f"{where} has {key} = {value!r}.", f"Use a whole number from {low} to {high}."
            )
    ascending = all(isinstance(item, int) and item >= 1 for item in profile.buckets) and list(
        profile.buckets
    ) == sorted(set(profile.buckets))
    if not ascending or profile.buckets[-1] != profile.batch:
        raise EngineError(
            f"{where} has buckets = {list(profile.buckets)} with batch = {profile.batch}.",
            "Give ascending whole numbers from 1 up that end in the batch.",
        )
    _check_options(where, profile)


def _check_options(where: str, profile: Profile) -> None:
    """Options are tables of known backends."""
    from dinorad_rt.runners.registry import backend_names

    tables = isinstance(profile.options, Mapping) and all(
        isinstance(item, Mapping) for item in profile.options.values()
    )
    if not tables:
        raise EngineError(f"{where} has options that are no tables.", "Use [options.BACKEND].")
    known = backend_names()
    unknown = [name for name in profile.options if name.replace("_", "-") not in known]
    if unknown:
        raise EngineError(
            f"{where} has options for {', '.join(unknown)}, which is no backend.",
            f"Backends are: {', '.join(known)}.",
        )
