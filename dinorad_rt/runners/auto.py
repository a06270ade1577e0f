"""`auto`: the fastest backend of this machine for one graph, measured once and remembered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph


@dataclass(frozen=True)
class Choice:
    """What `auto` chose and why.

    Attributes:
        backend: its name.
        reason: one sentence for the user.
        measured: backend → images per second, of those that were measured.
        excluded: backend → why it was not measured.
    """

    backend: str
    reason: str
    measured: Mapping[str, float] = field(default_factory=dict)
    excluded: Mapping[str, str] = field(default_factory=dict)


def choose_backend(
    graph: Graph, profile: Profile, progress: Callable[[str], None] | None = None
) -> Choice:
    """The fastest backend here for this graph; measures once per machine, graph and profile."""
    raise NotImplementedError
