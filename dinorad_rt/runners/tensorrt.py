"""TensorRT on NVIDIA GPUs, and what it shares with TensorRT-RTX.

Precision is the graph's: networks are strongly typed, TF32 is off. Each bucket of the profile is
an optimisation profile of its own with one exact shape, because kernels are chosen for the shape
that they were timed at; the tail of a batch is padded to its bucket.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import BackendMissingError, EngineError
from dinorad_rt.machine import gpu_facts
from dinorad_rt.runners.base import AbstractRunner, Availability, Plan
from dinorad_rt.runners.precision import PRECISION_OF, LowType, low_type
from dinorad_rt.runners.tensorrt_flavour import (
    TENSORRT,
    Flavour,
    availability,
    local_target,
    target_precisions,
)

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.engines.profile import Profile
    from dinorad_rt.export.manifest import Graph
    from dinorad_rt.progress import Say

NOT_RUN = "not run, needs the GPU"
"""State of the parity of an engine that was built for another machine."""
_STREAMS = 2
_FLAGS = {
    "version_compatible": ("VERSION_COMPATIBLE", "EXCLUDE_LEAN_RUNTIME"),
    "stripped": ("STRIP_PLAN",),
    "refittable": ("REFIT",),
    "strict_nans": ("STRICT_NANS",),
    "distributive_independence": ("DISTRIBUTIVE_INDEPENDENCE",),
}
_HARDWARE = ("none", "ampere_plus", "same_compute_capability")
_BUFFERS = ("auto", "torch", "cuda", "pycuda")
_DEFAULTS: dict[str, Any] = {
    **dict.fromkeys(_FLAGS, False),
    "hardware_compatible": "none",
    "optimization_level": 3,
    "workspace_mib": 0,
    "tf32": False,
    "cuda_graphs": True,
    "buffers": "auto",
}
_ONLY_TENSORRT = ("version_compatible", "hardware_compatible", "optimization_level")
"""TensorRT-RTX 1.7 has no lean runtime, its engines fit a whole GPU generation anyway, and its
levels all give the same plan."""
_NEEDS_GPU = ("stripped", "refittable")
"""Measured with TensorRT-RTX 1.7: with these its compiler asks the driver for a GPU and fails."""


@dataclass(frozen=True)
class TensorRTBackend:
    """The backend of one flavour: what its module offers under the names of `Backend`."""

    flavour: Flavour

    def is_available(self) -> Availability:
        """Whether the package is installed, and a GPU that it knows is here."""
        return availability(self.flavour)

    def plan(self, graph: Graph, profile: Profile) -> Plan:
        """Resolve the profile for the GPU at hand.

        Options: `workspace_mib` (0: no limit), `tf32`, `cuda_graphs`, `buffers` (auto, torch, cuda,
        pycuda), `stripped`, `refittable`, `strict_nans`,
        `distributive_independence`, and for TensorRT `optimization_level` (0 to 5),
        `version_compatible`,
        `hardware_compatible` (none, ampere_plus, same_compute_capability).

        Raises:
            EngineError: an unknown option or value, or a precision that the GPU does not have.
            BackendMissingError: there is no GPU.
        """
        here = local_target()
        if here is None:
            raise BackendMissingError(
                f"{self.flavour.name} cannot build for the GPU at hand: there is none.",
                self._without_gpu(),
            )
        device = {"kind": "cuda", **gpu_facts()}
        return self.plan_for(graph, profile, here, device)

    def plan_for(
        self, graph: Graph, profile: Profile, target: str, device: Mapping[str, Any]
    ) -> Plan:
        """Resolve the profile for a target.

        Args:
            graph: what is built.
            profile: from `load_profile`.
            target: such as "sm89".
            device: what the engine's key says of the GPU.

        Raises:
            EngineError: as for `plan`.
        """
        low = low_type(graph)
        self._refuse(graph, low, target)
        options = self._options(profile)
        if device.get("cross_built"):
            _refuse_cross(profile, options, self.flavour)
        flags = [name for key, names in _FLAGS.items() if options[key] for name in names]
        settings = {
            "buckets": list(profile.buckets),
            "streams": profile.streams or _STREAMS,
            "matrix_type": low,
            "flags": sorted(flags),
            "hardware_compatibility": str(options["hardware_compatible"]).upper(),
            **{key: options[key] for key in ("optimization_level", "workspace_mib", "tf32")},
            **{key: options[key] for key in ("cuda_graphs", "buffers")},
        }
        return Plan(
            backend=self.flavour.name,
            version=self.flavour.version or "",
            precision=graph.precision,
            batch=profile.batch,
            settings=settings,
            device={**device, "target": target} if self.flavour.cross else dict(device),
        )

    def build(
        self, graph: Graph, plan: Plan, folder: Path, *, say: Say | None = None
    ) -> dict[str, Any]:
        """Build the plan file into `folder`; return the proof of precision.

        Raises:
            BuildError: the graph is refused, or its precision would not be kept.
        """
        from dinorad_rt.runners.tensorrt_build import build_plan_file

        return build_plan_file(self.flavour, graph, plan, folder, say)

    def load(self, engine: Engine) -> AbstractRunner:
        """The runner of an engine.

        Raises:
            EngineError: its numbers were never compared with its graph, or it is for another GPU.
        """
        from dinorad_rt.runners.tensorrt_runner import TensorRTRunner

        refuse_ungated(engine)
        refuse_other_gpu(engine, self.flavour)
        return TensorRTRunner(engine, self.flavour)

    def _without_gpu(self) -> str:
        if self.flavour.cross:
            return "Name the GPUs it is for: dinorad-rt build --backend tensorrt-rtx --targets sm89"
        return "See what runs here: dinorad-rt list backends"

    def _refuse(self, graph: Graph, low: LowType, target: str) -> None:
        has = target_precisions(target, self.flavour)
        precision = PRECISION_OF[low]
        if precision in has and (graph.precision != "mixed" or "fp32" in has):
            return
        raise EngineError(
            f"{self.flavour.name} has no {graph.precision} matrix products for {target}; it has "
            f"{', '.join(has)}.",
            f"Use --precision {has[-1]} for this GPU, or leave it out of --targets.",
        )

    def _options(self, profile: Profile) -> dict[str, Any]:
        given = profile.options_for(self.flavour.name)
        allowed = [
            name for name in _DEFAULTS if not (self.flavour.cross and name in _ONLY_TENSORRT)
        ]
        unknown = sorted(set(given) - set(allowed))
        if unknown:
            raise EngineError(
                f"The profile {profile.name} gives {self.flavour.name} the options "
                f"{', '.join(unknown)}.",
                f"Allowed are: {', '.join(allowed)}.",
            )
        options = _DEFAULTS | given
        for name, value in options.items():
            _check_option(profile.name, name, value)
        return options


def refuse_ungated(engine: Engine) -> None:
    """Raise for an engine that was built for another machine and never ran.

    Raises:
        EngineError: its manifest says that parity was not run.
    """
    if engine.manifest.get("parity") == NOT_RUN:
        target = engine.manifest.get("device", {}).get("target", "another GPU")
        raise EngineError(
            f"The engine of {engine.model} was built for {target} on a machine without that GPU; "
            "its numbers were never compared with its graph.",
            "On a machine with that GPU: dinorad-rt verify --graph GRAPH --admit FOLDER",
        )


def refuse_other_gpu(engine: Engine, flavour: Flavour) -> None:
    """Raise for an engine of another GPU than the one at hand, before its library tries.

    TensorRT engines are for one model of GPU, unless they were built hardware-compatible; those of
    TensorRT-RTX are for a generation.

    Raises:
        EngineError: with the GPU it was built for and the one that is here.
    """
    built, here = engine.manifest.get("device", {}), gpu_facts()
    keys = ["compute_capability"]
    if not flavour.cross and engine.settings.get("hardware_compatibility", "NONE") == "NONE":
        keys.append("name")
    if engine.settings.get("hardware_compatibility") == "AMPERE_PLUS":
        keys = []
    other = [key for key in keys if key in built and built[key] != here.get(key)]
    if other:
        theirs = f"{built.get('name', 'another GPU')} ({built.get('compute_capability')})"
        ours = f"{here.get('name', 'no GPU')} ({here.get('compute_capability', '-')})"
        raise EngineError(
            f"The engine of {engine.model} was built for the GPU {theirs}; here is {ours}.",
            "Build it for this GPU: dinorad-rt build",
        )


def _refuse_cross(profile: Profile, options: Mapping[str, Any], flavour: Flavour) -> None:
    asked = [name for name in _NEEDS_GPU if options[name]]
    if asked:
        raise EngineError(
            f"The profile {profile.name} asks for a {' and '.join(asked)} engine; {flavour.name} "
            "builds such a one only on the GPU that it is for.",
            f"Leave {', '.join(asked)} out of the profile, or build on that GPU without --targets.",
        )


def _check_option(profile: str, name: str, value: Any) -> None:
    default = _DEFAULTS[name]
    allowed: tuple[Any, ...] = ()
    if isinstance(default, bool):
        allowed = (True, False)
        good = isinstance(value, bool)
    elif isinstance(default, str):
        allowed = _BUFFERS if name == "buffers" else _HARDWARE
        good = value in allowed
    else:
        top = 5 if name == "optimization_level" else 1 << 24
        allowed = (f"whole numbers from 0 to {top}",)
        good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= top
    if not good:
        raise EngineError(
            f"The profile {profile} has {name} = {value!r}.",
            f"Allowed are: {', '.join(map(str, allowed))}.",
        )


NAME = TENSORRT.name
_BACKEND = TensorRTBackend(TENSORRT)
is_available = _BACKEND.is_available
plan = _BACKEND.plan
build = _BACKEND.build
load = _BACKEND.load
