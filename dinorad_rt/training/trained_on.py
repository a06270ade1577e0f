"""Who a run was trained on, and whether test images of other data are among them.

RUN/trained_on.parquet   a row per training and validation image: split, keyed hash of its patient
                         (null where the data names none), keyed hash of its file's trace

Nothing of it names anybody: without the key of the pseudonyms a hash can be neither undone nor
tested, and with another key nothing can be compared, which is then said.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.datasets.duplicates import READERS
from dinorad_rt.datasets.traces import trace_of
from dinorad_rt.errors import LeakageError, RunError
from dinorad_rt.files import atomic_path, sha256_json
from dinorad_rt.progress import Say, silent
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.words import count_of, verb_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Dataset, Sample

TRAINED_ON_FILE = "trained_on.parquet"
Seen = Literal["refuse", "leave-out", "keep"]
"""What is done with test patients that a run was trained on; keep: they are other people of the
same names."""
_KEY = b"dinorad_rt.key"


def write_trained_on(folder: Path, dataset: Dataset) -> None:
    """Write the table of a run's training and validation images.

    Raises:
        NoSpaceError: the disk is full.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    samples = dataset.of_split("train", "val")
    columns = {
        "split": [sample.split for sample in samples],
        "patient": _patients(dataset, samples),
        "content": _contents(samples),
    }
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    with atomic_path(folder / TRAINED_ON_FILE) as part:
        pq.write_table(table.replace_schema_metadata({_KEY: _key_mark()}), part)


def without_seen(
    run: Path,
    trained: Mapping[str, Any],
    dataset: Dataset,
    seen: Seen = "refuse",
    say: Say = silent,
) -> tuple[Dataset, list[str]]:
    """A dataset whose test split can be judged, and what a reader must know of it.

    Args:
        run: folder of the run.
        trained: what its train.json says of its data.
        dataset: other data, or the run's own.
        seen: what is done with test patients that the run was trained on, or selected by.
        say: told of the notes.

    Raises:
        LeakageError: there are such patients, and `seen` is to refuse; or there are no others.
        RunError: the table is damaged.
    """
    if dataset.fingerprint == trained["fingerprint"]:
        return dataset, []
    dataset, note = _compared(run, trained, dataset, seen)
    say(note)
    return dataset, [note]


def _compared(
    run: Path, trained: Mapping[str, Any], dataset: Dataset, seen: Seen
) -> tuple[Dataset, str]:
    """Other data without what must not be judged, and what is known of it."""
    other = (
        f"This is other data than the run was trained on ({trained['name']}), or another split of "
        "it"
    )
    known = _read(run)
    if isinstance(known, str):
        return dataset, (
            f"{other}: whether test patients are among those of training is not known. {known}"
        )
    test = dataset.of_split("test")
    found = _found(known, dataset, test)
    if not found.patients:
        return dataset, f"{other}. {found.cleared}"
    if seen == "refuse":
        raise LeakageError(f"{found.told}: test results would be too good.", _ways(trained))
    if seen == "keep":
        return dataset, (
            f"{other}. LEAKAGE? {found.told}: results on them are too good, unless they are other "
            "people of the same names. They were kept, as asked."
        )
    kept = tuple(s for s in dataset.samples if s.split != "test" or s.patient not in found.patients)
    if not any(sample.split == "test" for sample in kept):
        raise LeakageError(
            f"{found.told}, and there are no others to judge it by.",
            "Give a test split of patients that the run does not know.",
        )
    return _narrowed(dataset, kept), f"{other}. {found.told}. They were left out, as asked."


@dataclass(frozen=True)
class _Known:
    """What a run was trained on and selected by."""

    patients: frozenset[str]
    contents: frozenset[str]


@dataclass(frozen=True)
class _Found:
    """What of a test split a run knows.

    Attributes:
        patients: keys of those patients.
        told: how many, and by what, in words.
        cleared: what is said if there are none.
    """

    patients: frozenset[str]
    told: str
    cleared: str


def _found(known: _Known, dataset: Dataset, test: Sequence[Sample]) -> _Found:
    named = _patients(dataset, test)
    copies = [content in known.contents for content in _contents(test)]
    by_key = {patient for patient in named if patient in known.patients}
    by_file = {sample.patient for sample, copy in zip(test, copies, strict=True) if copy}
    patients = frozenset(by_key | by_file)
    images = sum(sample.patient in patients for sample in test)
    everyone = {sample.patient for sample in test}
    was = verb_of(len(patients), "was", "were")
    told = (
        f"{len(patients)} of {count_of(len(everyone), 'test patient')} ({count_of(images, 'image')}"
        f") {was} trained on, or chose the epoch: {len(by_key)} by the patient's key, "
        f"{count_of(sum(copies), 'image')} by a file of the same content"
    )
    unnamed = sum(patient is None for patient in named)
    cleared = (
        f"None of its {count_of(len(everyone), 'test patient')} is among those of training and "
        "validation, by the patients' keys and the content of files."
    )
    if unnamed:
        name = verb_of(unnamed, "names", "name")
        cleared += f" {unnamed} of {count_of(len(test), 'test image')} {name} no patient: of these "
        cleared += "only the files could be compared."
    if not known.patients:
        cleared += " The training data names no patients: only files could be compared."
    return _Found(patients, told, cleared)


def _narrowed(dataset: Dataset, kept: tuple[Sample, ...]) -> Dataset:
    """The dataset with fewer samples, under hashes of its own."""
    rows = sorted((_name(dataset, sample), str(sample.split)) for sample in kept)
    return replace(
        dataset,
        samples=kept,
        fingerprint=sha256_json({"of": dataset.fingerprint, "kept": rows}),
        split_hash=sha256_json(rows),
    )


def _ways(trained: Mapping[str, Any]) -> str:
    """What to do about it."""
    return (
        f"If this is the data of the run ({trained['name']}), give its splits: the table or --seed "
        "that it was trained with. Else leave these patients out: --trained-on leave-out. Or keep "
        "them, where they are other people of the same names: --trained-on keep"
    )


def _patients(dataset: Dataset, samples: Iterable[Sample]) -> list[str | None]:
    """Keys of the patients; None where an image counts as a patient of its own."""
    alone = (pseudonym("patient", f"file:{dataset.name_of(sample)}") for sample in samples)
    return [
        None if sample.patient == own else sample.patient
        for sample, own in zip(samples, alone, strict=True)
    ]


def _contents(samples: Sequence[Sample]) -> list[str | None]:
    """Keyed hashes of the files' traces; None for a file that is missing or empty."""
    paths = list({sample.path for sample in samples})
    with ThreadPoolExecutor(READERS) as pool:
        traces = dict(zip(paths, pool.map(trace_of, paths), strict=True))
    keys = {
        path: pseudonym("content", trace) if trace and not trace.startswith("0-") else None
        for path, trace in traces.items()
    }
    return [keys[sample.path] for sample in samples]


def _name(dataset: Dataset, sample: Sample) -> str:
    name = dataset.name_of(sample)
    return name if sample.frame is None else f"{name}#{sample.frame}"


def _key_mark() -> str:
    """The same for all that is made with one key, and telling nothing of it."""
    return pseudonym("mark", "key")


def _read(run: Path) -> _Known | str:
    """What a run was trained on; or why that is not known."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = run / TRAINED_ON_FILE
    if not path.is_file():
        return f"The run has no {TRAINED_ON_FILE}: earlier versions did not write it."
    try:
        table = pq.read_table(path)
        patients, contents = (
            frozenset(value for value in table[name].to_pylist() if value is not None)
            for name in ("patient", "content")
        )
    except (pa.ArrowException, OSError, KeyError) as error:
        raise RunError(
            f"{path} cannot be read: {type(error).__name__}.",
            "Run the same dinorad-rt train command again: it writes it anew.",
        ) from error
    if (table.schema.metadata or {}).get(_KEY) != _key_mark().encode():
        return (
            "Its patients were hashed with another key, as on another machine (a team shares one: "
            "DINORAD_RT_KEY)."
        )
    return _Known(patients, contents)
