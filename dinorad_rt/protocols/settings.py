"""What the settings of all protocols share: presets, checked changes, plain values for results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, Self, get_args, get_origin, get_type_hints

from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.metrics.intervals import RESAMPLES

if TYPE_CHECKING:
    from dinorad_rt.protocols.truth import Truth

Pooling = Literal["mean", "max", "attention"]
Unit = Literal["sample", "patient"]


@dataclass(frozen=True, kw_only=True)
class AbstractSettings(ABC):
    """Every choice of one protocol.

    Attributes:
        preset_name: the preset that these settings began as.
        pooling: how the slices of a volume become one embedding: mean, max, or attention, which
            is trained with the head (`linear` only).
        unit: what is judged: a sample (an image or volume) or a patient, whose samples are pooled.
        resamples: of the bootstrap by patient behind each interval.
        specificity: at which the sensitivity is reported.
    """

    preset_name: str = "dinorad"
    pooling: Pooling = "mean"
    unit: Unit = "sample"
    resamples: int = RESAMPLES
    specificity: float = 0.9

    def __post_init__(self) -> None:
        self._check_choices()
        self.require(self.resamples >= 1, "resamples", "at least 1")
        self.require(0 < self.specificity < 1, "specificity", "between 0 and 1")
        self.require(
            self.pooling != "attention" or self.can_train_pooling,
            "pooling",
            "mean or max here: attention is trained with the heads of --protocol linear",
        )

    @classmethod
    @abstractmethod
    def preset(cls, name: str) -> Self:
        """The settings of `study`, `dinov2` or `dinorad`."""

    @property
    def can_train_pooling(self) -> bool:
        """True if the protocol trains attention pooling with its head."""
        return False

    @property
    def needs_images(self) -> bool:
        """True if stored embeddings are not enough."""
        return False

    @property
    def reads(self) -> tuple[int | None, bool]:
        """How many last blocks' class tokens are read, None for all; and whether the patch mean.

        Nothing else of the embeddings is kept in memory.
        """
        return None, True

    def without_attention(self) -> Self:
        """These settings, with the mean where attention would be trained."""
        return replace(self, pooling="mean") if self.pooling == "attention" else self

    def check(self, truth: Truth) -> None:  # noqa: B027  most protocols fit all data
        """Refuse, before any work, data that these settings do not fit.

        Raises:
            ProtocolError: what does not fit, and what would.
        """

    def deviations(self, truth: Truth) -> list[str]:
        """Where the study's code, its text and this run differ from each other."""
        return []

    def changed(self, options: Mapping[str, Any]) -> Self:
        """These settings with other values; None keeps what is there, unless None is a value.

        Raises:
            UnknownNameError: the protocol has no such setting.
            ProtocolError: a value that it cannot have.
        """
        hints = get_type_hints(type(self))
        given = {
            name: value
            for name, value in options.items()
            if value is not None or type(None) in get_args(hints.get(name))
        }
        known = [item.name for item in fields(self) if item.name != "preset_name"]
        for name in given:
            if name not in known:
                raise unknown_name("setting", name, known, f"they are {', '.join(known)}")
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in given.items()
        }
        return replace(self, **values)

    @classmethod
    def parsed(cls, name: str, text: str) -> Any:
        """A setting's value from text, by the type of the field: numbers, words, or lists of them.

        Raises:
            UnknownNameError: there is no such setting.
            ProtocolError: the text is no value of its type.
        """
        known = [item.name for item in fields(cls) if item.name != "preset_name"]
        if name not in known:
            raise unknown_name("setting", name, known, f"they are {', '.join(known)}")
        hint = get_type_hints(cls)[name]
        try:
            return _parse(text, hint)
        except ValueError as error:
            raise ProtocolError(
                f"{name} = {text!r} cannot be read as {_type_name(hint)}.",
                f"Example: --set {name}={_example(hint)}",
            ) from error

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def require(self, fits: bool, name: str, allowed: str) -> None:
        """Refuse a value.

        Raises:
            ProtocolError: if it does not fit, with what is allowed.
        """
        if not fits:
            raise ProtocolError(
                f"{name} = {_shown(getattr(self, name))} does not fit.",
                f"{name} must be {allowed}.",
            )

    def _check_choices(self) -> None:
        """Each field with a `Literal` type has one of its values."""
        for name, hint in get_type_hints(type(self)).items():
            allowed = [v for v in get_args(hint) if isinstance(v, str)]
            if allowed and getattr(self, name) not in allowed:
                self.require(False, name, f"one of {', '.join(allowed)}")


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _parse(text: str, hint: Any) -> Any:
    """Text as a value of a type: scalars, unions with None, and tuples of one type."""
    origin, inner = get_origin(hint), [item for item in get_args(hint) if item is not type(None)]
    if origin is UnionType:
        return None if text.lower() == "none" else _parse(text, inner[0])
    if origin is Literal:
        return text
    if origin is tuple:
        return tuple(_parse(part.strip(), inner[0]) for part in text.split(","))
    if hint is bool:
        words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        if text.lower() not in words:
            raise ValueError(text)
        return words[text.lower()]
    return hint(text)


def _type_name(hint: Any) -> str:
    return str(getattr(hint, "__name__", hint)).replace("tuple[int, ...]", "a list of numbers")


def _example(hint: Any) -> str:
    if hint is bool:
        return "true"
    return "1" if hint is int else "0.5" if hint is float else "1,2,4"
