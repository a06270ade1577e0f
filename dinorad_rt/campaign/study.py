"""The study file: what it may hold, read and checked before anything runs.

title = "Two backbones on our X-rays"
root = "../data"                  # paths below are relative to it; it, to this file

[defaults]                        # for every entry that does not say otherwise
preprocessing = "study"
seeds = [0]

[[models]]
name = "vits14"
weights = "hub"                   # hub, random, auto, or a file or folder

[[datasets]]
name = "our-xrays"
data = "xrays/labels.csv"         # or: dataset = "nih-chestxray14", root = "nih"

[[protocols]]
protocol = "knn"
preset = "study"
tasks = ["binary", "multiclass"]  # only datasets of these tasks
settings = { ks = [5, 20] }
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from dinorad_rt.backbones.locate import NAMED_WEIGHTS
from dinorad_rt.campaign.reader import Problems, Table
from dinorad_rt.errors import DinoradError, StudyError, unknown_name
from dinorad_rt.limits import IMAGE_SIZES, SEEDS
from dinorad_rt.pipeline import check_precision, check_source
from dinorad_rt.protocols.registry import settings_for

TASKS = ("binary", "multiclass", "multilabel")
COLUMNS = ("image_column", "label_column", "label_separator", "patient_column", "split_column")
SUFFIX = ".toml"


@dataclass(frozen=True)
class Model:
    """A backbone and the engine that is wanted of it; as `pipeline.EngineRequest`."""

    name: str
    weights: str
    image_size: int | None
    precision: str
    backend: str
    profile: str


@dataclass(frozen=True)
class Data:
    """Where a dataset is.

    Attributes:
        name: in tables and folders.
        data: folder or CSV of the user's own, or None.
        dataset: registered name, or None.
        root: folder of a registered dataset's files, or None for its default place.
        columns: of a CSV.
    """

    name: str
    data: Path | None
    dataset: str | None
    root: Path | None
    columns: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Protocol:
    """One protocol with its settings, and what it is run on.

    Attributes:
        protocol: registered name.
        preset: study, dinov2 or dinorad.
        preprocessing: preset.
        settings: that differ from the preset's.
        seeds: one run each.
        tasks, datasets, models: only these; all if empty.
    """

    protocol: str
    preset: str
    preprocessing: str
    settings: dict[str, Any]
    seeds: tuple[int, ...]
    tasks: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()


@dataclass(frozen=True)
class Study:
    """A checked study file.

    Attributes:
        name: of the file, without its suffix.
        title: of the report.
        models, datasets, protocols: the axes.
        benches: bench.json files for the report.
        plots: formats of the report's plots that are also written as files.
    """

    name: str
    title: str
    models: tuple[Model, ...]
    datasets: tuple[Data, ...]
    protocols: tuple[Protocol, ...]
    benches: tuple[Path, ...] = ()
    plots: tuple[str, ...] = ()


def list_studies() -> tuple[str, ...]:
    """Names of the studies that ship with the package."""
    return tuple(sorted(path.stem for path in _shipped().glob(f"*{SUFFIX}")))


def read_study_file(study: str | Path, root: Path | None = None) -> Study:
    """Read and check a study.

    Args:
        study: path of a TOML file, or the name of a shipped study.
        root: folder that paths in it are relative to, instead of its own `root`.

    Raises:
        UnknownNameError: neither a file nor a shipped study.
        StudyError: the file is not valid; every problem is in the message.
    """
    path = _path_of(study)
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise StudyError(f"The study {path.name} cannot be read: {error}.") from error
    problems = Problems()
    top = Table(document, "the file", problems)
    own_root = top.text("root")
    base = root or (path.parent / own_root if own_root else path.parent)
    defaults = top.table("defaults")
    _check_defaults(defaults, problems)
    result = Study(
        name=path.stem,
        title=top.text("title") or path.stem,
        models=_models(top, defaults, base, problems),
        datasets=_datasets(top, base, problems),
        protocols=_protocols(top, defaults, problems),
        benches=tuple(_existing("benches", base / part, problems) for part in top.texts("benches")),
        plots=_plots(top, problems),
    )
    top.text("about")
    top.refuse_unknown()
    _check_filters(result, problems)
    if problems.found:
        raise StudyError(
            f"The study {path.name} is not valid:\n  - " + "\n  - ".join(problems.found),
            "Mend these lines; `python -m pydoc dinorad_rt.campaign.study` shows what may stand "
            "there.",
        )
    return result


def _shipped() -> Path:
    return Path(__file__).resolve().parent


def _path_of(study: str | Path) -> Path:
    path = Path(study).expanduser()
    if path.is_file():
        return path
    shipped = _shipped() / f"{study}{SUFFIX}"
    if shipped.is_file() and "/" not in str(study):
        return shipped
    if path.suffix == SUFFIX:
        raise StudyError(f"The study {path} does not exist.", "Check the spelling of --study.")
    raise unknown_name("study", str(study), list_studies(), "dinorad-rt list studies")


def _plots(top: Table, problems: Problems) -> tuple[str, ...]:
    from dinorad_rt.reports.plots import FORMATS

    found = top.texts("plots")
    for name in found:
        if name not in FORMATS:
            problems.add(f"plots: {_named('format of plots', name, FORMATS)}")
    return found


def _models(
    top: Table, defaults: Mapping[str, Any], base: Path, problems: Problems
) -> tuple[Model, ...]:
    from dinorad_rt.backbones.registry import get_spec
    from dinorad_rt.engines.profile import load_profile

    found = []
    for number, values in enumerate(top.tables("models"), start=1):
        table = Table(values, f"[[models]] {number}", problems, defaults)
        name = table.text("name", needed=True) or ""
        if name:
            _tried(problems, f"[[models]] {number}", partial(get_spec, name))
        weights = table.text("weights", "hub") or "hub"
        if weights not in NAMED_WEIGHTS:
            weights = str(_existing(f"{table.where} ({name}), weights", base / weights, problems))
        found.append(
            Model(
                name=name,
                weights=weights,
                image_size=table.number("image_size", IMAGE_SIZES),
                precision=_checked(table, "precision", "auto", check_precision, problems),
                backend=_checked(table, "backend", "auto", _check_backend, problems),
                profile=_checked(table, "profile", "default", load_profile, problems),
            )
        )
        table.refuse_unknown()
    return tuple(found)


def _datasets(top: Table, base: Path, problems: Problems) -> tuple[Data, ...]:
    from dinorad_rt.datasets.registry import list_datasets

    known = [row["name"] for row in list_datasets()]
    found = []
    for number, values in enumerate(top.tables("datasets"), start=1):
        where = f"[[datasets]] {number}"
        table = Table(values, where, problems)
        data, dataset, root = table.text("data"), table.text("dataset"), table.text("root")
        columns = {key: text for key in COLUMNS if (text := table.text(key)) is not None}
        if data is None and dataset is None:
            problems.add(f"{where} needs either data (a path) or dataset (a registered name)")
        else:
            _tried(problems, where, partial(check_source, data, dataset, root, columns, str))
        if dataset is not None and dataset not in known:
            problems.add(f"{where}: {_named('dataset', dataset, known)}")
        called = table.text("name") or dataset or Path(data or "").stem
        entry = f"{where} ({called}), data"
        found.append(
            Data(
                name=called,
                data=None if data is None else _existing(entry, base / data, problems),
                dataset=dataset,
                root=None if root is None else base / root,
                columns=columns,
            )
        )
        table.refuse_unknown()
    names = [item.name for item in found]
    for name in {name for name in names if names.count(name) > 1}:
        problems.add(f"two datasets are called {name!r}: give one of them another name")
    return tuple(found)


def _protocols(top: Table, defaults: Mapping[str, Any], problems: Problems) -> tuple[Protocol, ...]:
    found = []
    for number, values in enumerate(top.tables("protocols"), start=1):
        where = f"[[protocols]] {number}"
        table = Table(values, where, problems, defaults)
        protocol = table.text("protocol", needed=True) or ""
        preset = table.text("preset", "dinorad") or "dinorad"
        settings = table.table("settings")
        if protocol:
            _tried(problems, where, partial(settings_for, protocol, preset, settings))
        tasks = table.texts("tasks")
        for task in tasks:
            if task not in TASKS:
                problems.add(f"{where}: {_named('task', task, TASKS)}")
        found.append(
            Protocol(
                protocol=protocol,
                preset=preset,
                preprocessing=_checked(
                    table, "preprocessing", "dinorad", _check_preprocessing, problems
                ),
                settings=settings,
                seeds=table.numbers("seeds", (0,), SEEDS),
                tasks=tasks,
                datasets=table.texts("datasets"),
                models=table.texts("models"),
            )
        )
        table.refuse_unknown()
    return tuple(found)


def _checked(
    table: Table, key: str, default: str, check: Callable[[str], object], problems: Problems
) -> str:
    """A text of a table that a function refuses or takes, as it does for `eval`."""
    text = table.text(key, default) or default
    _tried(problems, table.where, partial(check, text))
    return text


def _check_backend(name: str) -> None:
    from dinorad_rt.runners.registry import get_backend

    if name != "auto":
        get_backend(name)


def _check_preprocessing(name: str) -> None:
    from dinorad_rt.backbones.registry import get_spec
    from dinorad_rt.preprocessing.presets import preset

    spec = get_spec("vits14")  # names are the same for all
    preset(name, spec, spec.image_size)


def _check_defaults(defaults: Mapping[str, Any], problems: Problems) -> None:
    table = Table(defaults, "[defaults]", problems)
    for key in ("precision", "backend", "profile", "preset", "preprocessing", "weights"):
        table.text(key)
    table.number("image_size", IMAGE_SIZES)
    table.numbers("seeds", (0,), SEEDS)
    table.refuse_unknown()


def _check_filters(study: Study, problems: Problems) -> None:
    """Every name that a protocol is limited to is one of the study's own."""
    names = {
        "datasets": [item.name for item in study.datasets],
        "models": [item.name for item in study.models],
    }
    for number, protocol in enumerate(study.protocols, start=1):
        for axis, known in names.items():
            for name in getattr(protocol, axis):
                if name not in known:
                    where = f"[[protocols]] {number}, {axis}"
                    problems.add(f"{where}: {_named(axis[:-1] + ' of this study', name, known)}")


def _existing(where: str, path: Path, problems: Problems) -> Path:
    if not path.exists():
        problems.add(f"{where}: {path} does not exist")
    return path


def _named(kind: str, name: str, known: Iterable[str]) -> str:
    return unknown_name(kind, name, known, "").problem.rstrip(".")


def _tried(problems: Problems, where: str, check: Callable[[], object]) -> None:
    """A check whose error becomes one more problem."""
    try:
        check()
    except DinoradError as error:
        problems.add(f"{where}: {error.problem} {error.fix}".rstrip(". "))
