"""Runs as a report sees them: what each is judged by, and which were judged on the same images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dinorad_rt.files import sha256_json
from dinorad_rt.reports.results import MetricValue, Predictions, Results
from dinorad_rt.words import count_of

MAIN_METRICS = ("auroc", "dice", "accuracy")
"""What a run is judged by: the first of them that it has."""
PER_VOLUME = {"over": "volumes"}
"""The setting that segmentation is judged by; the other one pools pixels."""


@dataclass(frozen=True)
class Run:
    """One run and its place in the report.

    Attributes:
        results: read from results.json, with every image's scores where they are kept.
        number: from 1, in the order of the report.
        name: its model, and whatever else tells it from other runs of that model.
        variant: settings that tell it from other runs of its name and protocol.
        folder: where its results lie; it is never shown.
    """

    results: Results
    number: int
    name: str = ""
    variant: str = ""
    folder: Path | None = field(default=None, repr=False, compare=False)

    @property
    def label(self) -> str:
        """Name and variant."""
        return f"{self.name} {self.variant}".strip()

    @property
    def anchor(self) -> str:
        """Id of its part of the page."""
        return f"run-{self.number}"

    @property
    def engine(self) -> Mapping[str, Any]:
        """Facts of its engine; empty if the provenance tells none."""
        return self.results.provenance.get("engine") or {}

    @property
    def model(self) -> str:
        """Name of the backbone, or of the network that was trained from scratch."""
        return str(self.engine.get("model") or self.results.settings.get("model") or "unknown")

    @cached_property
    def setting(self) -> dict[str, Any]:
        """The setting that the run is judged by.

        It is the one that validation chose; without one, of masks that per volume, else the last
        of the list, which was fixed before the test images were looked at.
        """
        chosen = self.results.chosen
        found = [value.setting for value in self.results.metrics if value.class_name is None]
        fitting = [setting for setting in found if setting.items() >= chosen.items()]
        if self.results.task == "segmentation" and PER_VOLUME in fitting:
            return dict(PER_VOLUME)
        return dict((fitting or found or [{}])[-1])

    @property
    def setting_words(self) -> str:
        """The setting in words, such as `k 20`."""
        return words_of(self.setting)

    def headline(self, name: str | None = None) -> MetricValue | None:
        """The macro or whole value of a metric under `setting`; of the main metric if not named."""
        names = MAIN_METRICS if name is None else (name,)
        for wanted in names:
            for value in self.results.metrics:
                whole = (value.name, value.class_name) == (wanted, None)
                if whole and value.setting == self.setting:
                    return value
        return None

    def predictions(self) -> Predictions | None:
        """Scores of the test images under `setting`, the first repeat; None if not kept."""
        for item in self.results.predictions:
            if item.setting.items() >= self.setting.items():
                return item
        return None


@dataclass(frozen=True)
class TestSet:
    """Runs that were judged on the same images.

    Attributes:
        key: of dataset, split and test images.
        runs: best first.
        name: of the dataset, with a number where several test sets share it.
    """

    key: str
    runs: tuple[Run, ...]
    name: str

    __test__ = False  # for pytest: no test

    @property
    def results(self) -> Results:
        """Any of the runs' results, for what they share."""
        return self.runs[0].results

    @property
    def count(self) -> tuple[int, int]:
        """Test images and patients."""
        first = self.results.metrics[0]
        return first.n, first.n_patients

    @property
    def count_words(self) -> str:
        """Test images and patients in words."""
        images, patients = self.count
        return f"{count_of(images, 'test image')} of {count_of(patients, 'patient')}"

    @property
    def protocols(self) -> tuple[str, ...]:
        """Protocols among the runs."""
        return tuple(dict.fromkeys(run.results.protocol for run in self.runs))


def grouped(runs: Sequence[Run]) -> tuple[TestSet, ...]:
    """Runs by test set, best first; the sets in the order of their names."""
    sets: dict[str, list[Run]] = {}
    for run in runs:
        sets.setdefault(test_set_key(run.results), []).append(run)
    names = [members[0].results.dataset for members in sets.values()]
    result = []
    for key, members in sets.items():
        name = members[0].results.dataset
        if names.count(name) > 1:
            same = [k for k, m in sets.items() if m[0].results.dataset == name]
            name = f"{name}, test set {same.index(key) + 1} of {len(same)}"
        result.append(TestSet(key, tuple(sorted(members, key=_rank)), name))
    return tuple(sorted(result, key=lambda item: item.name))


def test_set_key(results: Results) -> str:
    """Equal for runs judged on the same images, whatever the key of their pseudonyms."""
    data = results.provenance.get("dataset") or {}
    first = results.metrics[0] if results.metrics else None
    return sha256_json(
        {
            "dataset": results.dataset,
            "fingerprint": data.get("fingerprint"),
            "split": data.get("split_hash"),
            "classes": results.class_names,
            "images": None if first is None else [first.n, first.n_patients],
            "unit": results.settings.get("unit", "sample"),
        }
    )


test_set_key.__test__ = False  # type: ignore[attr-defined]  # for pytest: no test


def words_of(setting: Mapping[str, Any]) -> str:
    """A setting in words."""
    parts = []
    for key, value in setting.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        parts.append(f"{key.replace('_', ' ')} {shown}")
    return ", ".join(parts)


def _rank(run: Run) -> tuple[float, str]:
    value = run.headline()
    known = value is not None and value.value is not None
    return (-value.value if known else 0.0, run.label)  # type: ignore[union-attr, operator]
