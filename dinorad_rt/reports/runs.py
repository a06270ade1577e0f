"""Runs as a report sees them: found on disk, told apart by what differs, grouped by test set."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

from dinorad_rt.errors import DataError
from dinorad_rt.files import read_json, sha256_json
from dinorad_rt.reports.results import RESULTS_FILE, MetricValue, Predictions, Results

BENCH_FILE = "bench.json"
MAIN_METRICS = ("auroc", "dice", "accuracy")
"""What a run is judged by: the first of them that it has."""
PER_VOLUME = {"over": "volumes"}
"""The setting that segmentation is judged by; the other one pools pixels."""
UNTOLD_SETTINGS = ("preset_name", "device", "resamples", "reference", "shots")


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

    @property
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
    def protocols(self) -> tuple[str, ...]:
        """Protocols among the runs."""
        return tuple(dict.fromkeys(run.results.protocol for run in self.runs))


@dataclass(frozen=True)
class Material:
    """Everything that a report is made of.

    Attributes:
        runs: every run.
        test_sets: the runs by the images that they were judged on.
        benches: contents of bench.json files.
    """

    runs: tuple[Run, ...]
    test_sets: tuple[TestSet, ...]
    benches: tuple[dict[str, Any], ...] = field(default=())


def read_material(paths: Sequence[Path], benches: Sequence[Path] = ()) -> Material:
    """Read runs and benchmarks.

    Args:
        paths: folders of runs, folders that hold such folders, results.json or bench.json files.
        benches: bench.json files, or folders with one.

    Raises:
        DataError: nothing is there, or a file is not what its name says.
    """
    found: dict[Path, None] = {}
    timings: dict[Path, None] = {}
    for path in paths:
        results, benchmarks = _files_in(path)
        if not results and not benchmarks:
            raise DataError(
                f"{path} holds neither {RESULTS_FILE} nor {BENCH_FILE}, at any depth.",
                "Name folders of runs: what `dinorad-rt eval --out DIR` wrote.",
            )
        found |= dict.fromkeys(results)
        timings |= dict.fromkeys(benchmarks)
    for path in benches:
        timings |= dict.fromkeys([path / BENCH_FILE if path.is_dir() else path])
    if not found:
        raise DataError(
            "There is no run to report, only benchmarks.",
            "Add runs: what `dinorad-rt eval --out DIR` wrote. `bench` writes its own report.",
        )
    runs = labelled([_opened(path) for path in found], [path.parent for path in found])
    return Material(runs, grouped(runs), tuple(_bench(path) for path in timings))


def labelled(results: Iterable[Results], folders: Iterable[Path] = ()) -> tuple[Run, ...]:
    """Runs with names that tell them apart.

    The name has what differs between runs of one model; the variant, what settings differ between
    runs of one name and protocol on one test set.

    Args:
        results: of the runs.
        folders: where they lie, in the same order; fewer where that is not known.
    """
    runs = [
        Run(item, number, folder=folder)
        for number, (item, folder) in enumerate(
            zip(results, chain(folders, repeat(None)), strict=False), start=1
        )
    ]
    named: list[Run] = []
    for same in _split(runs, lambda run: run.model).values():
        for run, words in zip(same, _told_apart([_facts(run) for run in same]), strict=True):
            random = " (random weights)" if run.results.is_random else ""
            named.append(replace(run, name=f"{run.model}{random} {words}".strip()))
    finished: list[Run] = []
    for same in _split(
        named, lambda run: (run.name, run.results.protocol, test_set_key(run.results))
    ).values():
        variants = _told_apart([_settings(run) for run in same])
        for run, words in zip(same, variants, strict=True):
            known = words if variants.count(words) == 1 else f"{words} (run {run.number})".strip()
            finished.append(replace(run, variant=known))
    return tuple(sorted(finished, key=lambda run: run.number))


def _split(runs: Iterable[Run], key: Callable[[Run], Any]) -> dict[Any, list[Run]]:
    parts: dict[Any, list[Run]] = {}
    for run in runs:
        parts.setdefault(key(run), []).append(run)
    return parts


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


def unit_of(results: Results) -> str:
    """Unit of the distances of masks, mm or px; nothing for other tasks."""
    return str(results.settings.get("unit", "")) if results.task == "segmentation" else ""


def words_of(setting: Mapping[str, Any]) -> str:
    """A setting in words."""
    parts = []
    for key, value in setting.items():
        shown = f"{value:.4g}" if isinstance(value, float) else value
        parts.append(f"{key.replace('_', ' ')} {shown}")
    return ", ".join(parts)


def _told_apart(facts: Sequence[Mapping[str, str]]) -> list[str]:
    """Of each, the facts that differ, without those that tell nothing new."""
    kept: list[str] = []
    groups = 1
    for key in dict.fromkeys(key for fact in facts for key in fact):
        values = {fact.get(key, "") for fact in facts} - {""}
        finer = len({tuple(fact.get(name) for name in (*kept, key)) for fact in facts})
        if len(values) > 1 and finer > groups:
            kept.append(key)
            groups = finer
    return [" ".join(filter(None, (fact.get(key, "") for key in kept))) for fact in facts]


def _facts(run: Run) -> dict[str, str]:
    """What may tell two runs of one model and protocol apart."""
    results = run.results
    preprocessing = results.provenance.get("preprocessing") or {}
    evaluation = results.provenance.get("evaluation") or {}
    size = preprocessing.get("image_size")
    training = results.provenance.get("training") or {}
    return {
        "method": str(training.get("method") or ""),
        "judged": _judged_words(results),
        "weights": _weights_words(run.engine.get("weights")) or results.weights_kind,
        "size": f"{size} px" if size else "",
        "precision": str(run.engine.get("precision") or ""),
        "backend": str(run.engine.get("backend") or ""),
        "preprocessing": f"preprocessing {preprocessing.get('preset')}" if preprocessing else "",
        "preset": f"preset {results.preset}",
        "seed": f"seed {evaluation['seed']}" if "seed" in evaluation else "",
    }


def _settings(run: Run) -> dict[str, str]:
    """The settings of a run's protocol, in words."""
    settings = run.results.settings
    return {
        key: f"{key.replace('_', ' ')} {_plain_words(settings[key])}"
        for key in sorted(settings, key=lambda key: key != "head")  # what people ask for first
        if key not in UNTOLD_SETTINGS
    }


def _plain_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)


def _judged_words(results: Results) -> str:
    """Of trained models: whether the results are those of the training or of an engine."""
    if "run" in results.provenance:
        return "on its engine"
    return "as trained" if "training" in results.provenance else ""


def _weights_words(weights: Any) -> str:
    """Weights in few words: what they are called, and the first digits of their hash."""
    if not isinstance(weights, Mapping):
        return str(weights or "")
    sha = str(weights.get("sha256") or "")[:6]
    source = str(weights.get("source") or weights.get("kind") or "")
    if source.startswith("tuned ("):
        source = source.partition(" on ")[0]  # on what and from what stands in the provenance
    return " ".join(filter(None, (source, sha)))


def _rank(run: Run) -> tuple[float, str]:
    value = run.headline()
    known = value is not None and value.value is not None
    return (-value.value if known else 0.0, run.label)  # type: ignore[union-attr, operator]


def _files_in(path: Path) -> tuple[list[Path], list[Path]]:
    if path.is_file():
        is_bench = path.name == BENCH_FILE or path.suffix == ".json" and _is_bench(path)
        return ([], [path]) if is_bench else ([path], [])
    if not path.is_dir():
        raise DataError(f"{path} does not exist.", "Check the spelling of the runs' folders.")
    return sorted(path.rglob(RESULTS_FILE)), sorted(path.rglob(BENCH_FILE))


def _is_bench(path: Path) -> bool:
    try:
        return read_json(path).get("kind") == "bench"
    except (OSError, ValueError):
        return False


def _opened(path: Path) -> Results:
    """Results with scores where they are kept."""
    kept = (path.parent / "predictions.parquet").is_file()
    results = Results.open(path, predictions=kept)
    if not results.metrics:
        raise DataError(f"The run in {path.parent.name} has no metric.", "Run it again.")
    return results


def _bench(path: Path) -> dict[str, Any]:
    try:
        document = read_json(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path.name} cannot be read as a benchmark: {error}.",
            "Name the bench.json that `dinorad-rt bench --out DIR` wrote.",
        ) from error
    if document.get("kind") != "bench" or not isinstance(document.get("rows"), list):
        raise DataError(
            f"{path.name} is no benchmark.",
            "Name the bench.json that `dinorad-rt bench --out DIR` wrote.",
        )
    return document
