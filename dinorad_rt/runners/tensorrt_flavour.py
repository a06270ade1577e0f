"""TensorRT and TensorRT-RTX: one API under two names, and what differs between them.

`tensorrt` (10.12 and later, 11) times kernels on the GPU that the engine is for. `tensorrt-rtx`
compiles for named targets, without a GPU if need be, and finishes on the GPU at the first run.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from dataclasses import dataclass
from typing import Any

from dinorad_rt.errors import EngineError
from dinorad_rt.machine import gpu_facts, has_gpu
from dinorad_rt.optional import is_installed, require, version_of
from dinorad_rt.runners.base import Availability

_TURING = (7, 5)
_AMPERE = (8, 0)


@dataclass(frozen=True)
class Flavour:
    """One of the two packages.

    Attributes:
        name: of the backend on the command line.
        module: import name.
        distributions: package names whose version is the backend's; the first installed counts.
        install: command that installs it.
        targets: GPU generations it compiles for; empty: the GPU at hand, whatever it is.
        least: oldest version that builds what we ask for.
        cross: builds without the GPU that the engine is for.
    """

    name: str
    module: str
    distributions: tuple[str, ...]
    install: str
    targets: tuple[str, ...]
    least: tuple[int, int]
    cross: bool

    @property
    def version(self) -> str | None:
        """Of the installed package."""
        found = (version_of(name) for name in self.distributions)
        return next((version for version in found if version), None)

    def load(self) -> Any:
        """The package itself; imported here and nowhere else."""
        return require(self.module, f"The backend {self.name}")


TENSORRT = Flavour(
    name="tensorrt",
    module="tensorrt",
    distributions=("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    install="pip install 'dinorad-rt[tensorrt]'",
    targets=(),
    least=(10, 12),
    cross=False,
)
RTX = Flavour(
    name="tensorrt-rtx",
    module="tensorrt_rtx",
    distributions=("tensorrt-rtx", "tensorrt-rtx-cu13", "tensorrt-rtx-cu12"),
    install="pip install 'dinorad-rt[tensorrt-rtx]'",
    targets=("sm75", "sm80", "sm86", "sm89", "sm120", "sm121"),
    least=(1, 7),
    cross=True,
)


def availability(flavour: Flavour) -> Availability:
    """What the package can do on this machine; loads nothing heavy."""
    installed = is_installed(flavour.module)
    here = local_target()
    reason = _reason(flavour, installed, here)
    builds = installed and _recent(flavour) and (flavour.cross or has_gpu())
    runs = not reason
    return Availability(
        backend=flavour.name,
        can_build=builds,
        can_run=runs,
        version=flavour.version,
        devices=(f"cuda:0 {gpu_facts().get('name', '')}".strip(),) if runs else (),
        reason=reason,
        install=flavour.install,
        precisions=target_precisions(here, flavour) if runs and here else (),
    )


def local_target() -> str | None:
    """The GPU at hand as a target, such as "sm89"; None without one."""
    capability = gpu_facts().get("compute_capability")
    return f"sm{capability.replace('.', '')}" if capability else None


def normalise_target(text: str) -> str:
    """ "SM89", "89" and "8.9" are the target "sm89"."""
    return f"sm{text.strip().lower().removeprefix('sm').replace('_', '').replace('.', '')}"


def check_target(flavour: Flavour, text: str) -> str:
    """The target's name as we write it.

    Raises:
        EngineError: the package does not compile for it.
    """
    target = normalise_target(text)
    if target not in flavour.targets:
        allowed = ", ".join(flavour.targets) or "only the GPU at hand"
        raise EngineError(
            f"{flavour.name} {flavour.version or ''} does not compile for {text.strip()!r}; it "
            f"compiles for: {allowed}.",
            "Choose among these with --targets, or build on that GPU with --backend tensorrt.",
        )
    return target


def target_precisions(target: str, flavour: Flavour) -> tuple[str, ...]:
    """Precisions of matrix products that a GPU generation has there.

    Measured with TensorRT-RTX 1.7: for SM75 it refuses FP32 and BF16 matrix products.
    """
    capability = _capability(target)
    if capability >= _AMPERE:
        return ("fp32", "bf16", "fp16")
    if flavour.cross and capability == _TURING:
        return ("fp16",)
    return ("fp32", "fp16")


def _capability(target: str) -> tuple[int, int]:
    digits = target.removeprefix("sm")
    return int(digits[:-1]), int(digits[-1])


def _recent(flavour: Flavour) -> bool:
    parts = (flavour.version or "0.0").split(".")[:2]
    return tuple(int(part) for part in parts if part.isdigit()) >= flavour.least


def _reason(flavour: Flavour, installed: bool, here: str | None) -> str:
    if not installed:
        return f"the package {flavour.module} is not installed"
    if not _recent(flavour):
        least = ".".join(map(str, flavour.least))
        return f"{flavour.module} {flavour.version} is too old, {least} is needed"
    if here is None:
        aside = "; it only builds, for other machines (--targets)" if flavour.cross else ""
        return f"there is no GPU here{aside}"
    if flavour.targets and here not in flavour.targets:
        return (
            f"{flavour.module} {flavour.version} has no kernels for {here} "
            f"({gpu_facts().get('name', '')}), only for {', '.join(flavour.targets)}"
        )
    return ""


class Journal:
    """What the library said, kept for error messages instead of printed; safe across threads."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=200)
        self._lock = threading.Lock()

    def add(self, text: str) -> None:
        """Keep one message."""
        with self._lock:
            self._lines.append(text)

    def take(self) -> str:
        """Every message since the last call, joined."""
        with self._lock:
            text = "; ".join(dict.fromkeys(self._lines))
            self._lines.clear()
        return text or "no reason given"


@functools.cache
def logger(flavour: Flavour) -> tuple[Any, Journal]:
    """The library's logger (it keeps one per process) and the journal that it writes to."""
    trt = flavour.load()
    journal = Journal()

    class Listener(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                journal.add(msg.strip())

    return Listener(), journal
