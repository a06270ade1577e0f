"""Names that the shell completes: `dinorad-rt eval --model vitl<TAB>`."""

from __future__ import annotations

from collections.abc import Iterable


def models(incomplete: str) -> list[str]:
    """Short names of backbones that begin so."""
    from dinorad_rt.backbones.registry import list_specs

    return _beginning(incomplete, (spec.name for spec in list_specs()))


def datasets(incomplete: str) -> list[str]:
    """Registered datasets that begin so."""
    from dinorad_rt.datasets.registry import all_entries

    return _beginning(incomplete, all_entries())


def backends(incomplete: str) -> list[str]:
    """Backends that begin so."""
    from dinorad_rt.runners.registry import backend_names

    return _beginning(incomplete, ("auto", *backend_names()))


def profiles(incomplete: str) -> list[str]:
    """Profiles that begin so."""
    from dinorad_rt.engines.profile import list_profiles

    return _beginning(incomplete, (profile.name for profile in list_profiles()))


def protocols(incomplete: str) -> list[str]:
    """Protocols of `eval` that begin so."""
    from dinorad_rt.protocols.registry import PROTOCOLS

    return _beginning(incomplete, PROTOCOLS)


def _beginning(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
