"""Every protocol by name. A new one is a module of its own and a line here.

The module holds a frozen settings dataclass (`AbstractSettings`) and one function

    evaluate_x(train, val, test, dataset, settings, *, seed, provenance) -> Results

Both are imported when they are used: naming protocols costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol, cast

from dinorad_rt.errors import unknown_name

if TYPE_CHECKING:
    from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
    from dinorad_rt.protocols.settings import AbstractSettings
    from dinorad_rt.reports.results import Results

PROTOCOL_PRESETS = ("dinorad", "study", "dinov2")
"""Who fixed every choice: this package, the study (arXiv 2312.02366), facebookresearch/dinov2."""


class Evaluate(Protocol):
    """Judges the embeddings of the test split; the splits are pooled and checked already."""

    def __call__(
        self,
        train: EmbeddingTable,
        val: EmbeddingTable,
        test: EmbeddingTable,
        dataset: DatasetInfo,
        settings: Any,
        *,
        seed: int,
        provenance: Mapping[str, Any] | None = None,
        **extra: Any,
    ) -> Results:
        """Results of one protocol."""


@dataclass(frozen=True)
class Entry:
    """One protocol.

    Attributes:
        name: as on the command line.
        title: one line for lists and help.
        module: where it is.
        settings: name of its settings dataclass.
        evaluate: name of its function.
    """

    name: str
    title: str
    module: str
    settings: str
    evaluate: str

    def settings_class(self) -> type[AbstractSettings]:
        """The settings dataclass."""
        return cast("type[AbstractSettings]", getattr(self._import(), self.settings))

    def function(self) -> Evaluate:
        """The function that evaluates."""
        return cast(Evaluate, getattr(self._import(), self.evaluate))

    def _import(self) -> Any:
        return import_module(f"dinorad_rt.protocols.{self.module}")


PROTOCOLS: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("knn", "soft vote of the nearest neighbours", "knn", "KNNSettings", "evaluate_knn"),
        Entry(
            "logistic",
            "L2 logistic regression, C chosen on validation",
            "logistic",
            "LogisticSettings",
            "evaluate_logistic",
        ),
        Entry(
            "linear",
            "a grid of linear heads trained by SGD, one chosen on validation",
            "linear",
            "LinearSettings",
            "evaluate_linear",
        ),
        Entry(
            "few-shot",
            "a head that sees few patients per class, on seeded repeats",
            "fewshot",
            "FewShotSettings",
            "evaluate_few_shot",
        ),
        Entry("mlknn", "ML-kNN for multi-label sets", "mlknn", "MLKNNSettings", "evaluate_mlknn"),
    )
}


def protocol_named(name: str) -> Entry:
    """One protocol.

    Raises:
        UnknownNameError: there is none of this name.
    """
    if name not in PROTOCOLS:
        raise unknown_name("protocol", name, PROTOCOLS, "dinorad-rt list protocols")
    return PROTOCOLS[name]


def settings_for(
    protocol: str, preset: str = "dinorad", options: Mapping[str, Any] | None = None
) -> AbstractSettings:
    """Settings of a protocol: a preset, and what is asked for instead of its values.

    Raises:
        UnknownNameError: no such protocol, preset or setting.
        ProtocolError: a value that the setting cannot have.
    """
    entry = protocol_named(protocol)
    if preset not in PROTOCOL_PRESETS:
        raise unknown_name("protocol preset", preset, PROTOCOL_PRESETS, "dinorad-rt eval --help")
    return entry.settings_class().preset(preset).changed(options or {})
