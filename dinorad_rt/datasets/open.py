"""`open_dataset`: the user's folder or table becomes a checked `Dataset`, without configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dinorad_rt import identifiers
from dinorad_rt.datasets.checks import build_dataset
from dinorad_rt.datasets.columns import Columns, has_labels, has_masks, is_segmentation
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.facts import FileFacts, Progress
from dinorad_rt.datasets.folders import records_of_folders
from dinorad_rt.datasets.headers import is_dicom, patients_from_headers, refuse_patients_as_classes
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.pairs import has_pairs, records_of_pairs
from dinorad_rt.datasets.patients import found_patients
from dinorad_rt.datasets.record import Record
from dinorad_rt.datasets.rows import records_of_table
from dinorad_rt.datasets.segmentation import with_classes
from dinorad_rt.datasets.splits import parse_split
from dinorad_rt.datasets.table import Table, read_table, stem_of_table
from dinorad_rt.errors import EmptyDataError, LabelError, TableError
from dinorad_rt.types import Split
from dinorad_rt.words import count_of, verb_of

TaskChoice = Literal["auto", "classification", "segmentation"]
TABLE_NAME = "labels.csv"
_SHEET_SUFFIXES = (".xlsx", ".xls", ".ods")
_TABLE_SUFFIXES = (".csv", ".tsv", ".csv.gz", ".tsv.gz")


def open_dataset(
    data: str | Path,
    *,
    image_column: str | None = None,
    label_column: str | None = None,
    patient_column: str | None = None,
    split_column: str | None = None,
    mask_column: str | None = None,
    label_separator: str | None = None,
    class_names: Sequence[str] | None = None,
    mask_values: Sequence[int] | None = None,
    task: TaskChoice = "auto",
    splits: str | Path | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Dataset:
    """Open labelled images.

    Args:
        data: class folders (DIR/class/..., DIR/train/class/...), images and labels folders, a CSV
            or TSV, or a folder with labels.csv or one other table. Paths in a table are relative
            to its folder.
        image_column, label_column, patient_column, split_column, mask_column: columns of the
            table; without them the usual names are understood. Several label columns of 0/1 are
            given as `a,b,c`; several mask columns are one file per class. Masks as runs may say
            how they are counted: `EncodedPixels:rows`, see `runs.KINDS`.
        label_separator: what stands between several findings in one cell of the label column, or
            `none` for one class per cell; None to find out, see `findings`.
        class_names: of the masks, background first; without them by `dataset.json` or by value.
        mask_values: stored value of each of these classes, as a run holds them; None to find out. A
            `dataset.json` with the same classes goes before them.
        task: classification or segmentation; auto prefers a class per image where there is one.
        splits: a split list to follow, see `split_lists`, or `patient` to make new splits.
        seed: of the split by patient that is made, and saved, where none is given.
        progress: called with what is read, the number done and the total.

    Returns:
        A dataset whose patients each stand in one split.

    Raises:
        EmptyDataError: nothing there, or most listed files are missing.
        TableError: a column is missing, or a cell cannot be read.
        LabelError: one class only, or no classes (masks, real numbers).
        MaskError: masks that do not lie on their images.
        LeakageError: a patient in two splits.
    """
    path = Path(data).expanduser()
    columns = Columns(
        image_column, label_column, patient_column, split_column, mask_column, label_separator
    )
    masks = _Masks(tuple(class_names or ()) or None, tuple(mask_values or ()) or None, progress)
    table, beside = _table_of(path, columns, task)
    if table is not None:
        root, name, records, labels = _of_table(table, path.is_dir(), columns, task, masks)
    elif columns.separator is not None:
        raise TableError(
            f"{path} has no table, so there are no labels to separate.",
            "Leave --label-separator out, or give the CSV itself with --data.",
        )
    elif columns.named:
        raise TableError(
            f"{path} has no table, so there is no column {columns.named[0]!r}.",
            "Give the CSV itself with --data.",
        )
    else:
        root, name = path, path.resolve().name
        segmented = task == "segmentation" or (task == "auto" and has_pairs(path))
        records, labels = _of_pairs(path, masks) if segmented else _of_folders(path)
        labels = replace(labels, notes=(*labels.notes, *beside))
    listing = None if splits is None else Path(splits).expanduser()
    masked = labels.task == "segmentation"
    dataset = build_dataset(
        name, root, records, labels, seed=seed, splits=listing, draws_val=masked
    )
    return _without_telling_name(dataset)


@dataclass(frozen=True)
class _Masks:
    """How masks are read."""

    class_names: tuple[str, ...] | None
    values: tuple[int, ...] | None
    progress: Progress | None

    def labels(
        self,
        records: Sequence[Record],
        root: Path,
        *,
        classes: tuple[str, ...] | None,
        values: tuple[int, ...] | None = None,
    ) -> tuple[list[Record], Labels]:
        """Classes and values that the data itself tells count where the user names no others."""
        names, chosen = self.class_names or classes, self.values
        if classes and names == classes:
            chosen = values or tuple(range(len(classes)))
        return with_classes(records, names, chosen, FileFacts(root, self.progress))


def _of_table(
    table: Table, in_folder: bool, columns: Columns, task: TaskChoice, masks: _Masks
) -> tuple[Path, str, list[Record], Labels]:
    root = table.source.parent
    segmented = is_segmentation(table, columns, task)
    rows = records_of_table(table, columns, root, masks=segmented)
    records, labels = rows.records, rows.labels
    if labels is None:
        records, labels = masks.labels(records, root, classes=rows.classes)
    named_by_folder = in_folder or table.source.name.lower() == TABLE_NAME
    name = root.resolve().name if named_by_folder else stem_of_table(table.source)
    return root, name, records, replace(labels, notes=(*labels.notes, *rows.notes))


def _of_folders(path: Path) -> tuple[list[Record], Labels]:
    try:
        records, labels, notes = records_of_folders(path)
    except LabelError as error:
        sheets = sum(one.suffix.lower() in _SHEET_SUFFIXES for one in path.iterdir())
        if not sheets:
            raise
        raise LabelError(
            f"{error.problem} {count_of(sheets, 'spreadsheet')} in the folder cannot be read.",
            f"If the labels are in a spreadsheet, save it as {TABLE_NAME}. {error.fix}",
        ) from error
    in_folders = [record.patient for record in records]
    if all(patient is None for patient in in_folders):
        records, more = found_patients(records)
        refuse_patients_as_classes(records, labels.class_names)
        return records, replace(labels, notes=(*notes, *more))
    told, more = patients_from_headers(records)
    if told is not records:
        refuse_patients_as_classes(told, labels.class_names)
        pairs = {(one.patient, name) for one, name in zip(told, in_folders, strict=True)}
        if len(pairs) == len(set(in_folders)):  # a folder is of one patient, who may have several
            records, notes = told, [*notes, *more]
    return records, replace(labels, notes=tuple(notes))


def _of_pairs(path: Path, masks: _Masks) -> tuple[list[Record], Labels]:
    pairs = records_of_pairs(path)
    records, labels = masks.labels(
        pairs.records, path, classes=pairs.class_names, values=pairs.values
    )
    records, more = patients_from_headers(records)
    return records, replace(labels, notes=(*labels.notes, *pairs.notes, *more))


def _without_telling_name(dataset: Dataset) -> Dataset:
    """Folders of DICOM files are often named after patients: such a name is not passed on."""
    if identifiers.are_kept() or not any(is_dicom(one.path) for one in dataset.samples[:1]):
        return dataset
    note = "the folder's name is not used: folders of DICOM files may be named after patients"
    name = f"dicom-{dataset.fingerprint[:8]}"
    return replace(dataset, name=name, notes=(*dataset.notes, note))


def _table_of(
    path: Path, columns: Columns, task: TaskChoice
) -> tuple[Table | None, tuple[str, ...]]:
    """The table that a path means, None for folders alone; and what to say of those left aside."""
    if not path.exists():
        raise EmptyDataError(f"{path} does not exist.", "Check its spelling.")
    if path.is_file():
        if not path.name.lower().endswith((*_TABLE_SUFFIXES, ".txt")):
            raise EmptyDataError(
                f"{path} is one file, no set of images.",
                _registered_file(path) or "Give a CSV (image, label, patient, split), or a folder.",
            )
        return read_table(path), ()
    tables = sorted(
        entry
        for entry in path.iterdir()
        if entry.name.lower().endswith(_TABLE_SUFFIXES) and not entry.name.startswith(".")
    )
    by_names = task == "segmentation" or (task == "auto" and has_pairs(path))
    if tables and by_names and not columns.named and not any(_tells(one, task) for one in tables):
        have = verb_of(len(tables), "tells", "tell")
        return None, (f"{count_of(len(tables), 'table')} in the folder {have} no masks: not used",)
    return _chosen(path, tables), ()


def _registered_file(path: Path) -> str:
    """How to open a file that a registered set is published as; empty for others."""
    from dinorad_rt.datasets.registry import all_entries

    known = path.suffix == ".npz" and path.stem in all_entries()
    return f"Give it as the set that it is: --dataset {path.stem} --root FOLDER" if known else ""


def _tells(source: Path, task: TaskChoice) -> bool:
    """Whether a table says what is wanted: masks, or for auto a class or findings."""
    try:
        table = read_table(source)
    except (TableError, EmptyDataError):
        return False
    return has_masks(table) or (task == "auto" and has_labels(table))


def _chosen(path: Path, tables: Sequence[Path]) -> Table | None:
    """labels.csv, the only table of a folder, or one for each split; None without tables."""
    named = [entry for entry in tables if entry.name.lower() == TABLE_NAME]
    if named or len(tables) == 1:
        return read_table((named or tables)[0])
    by_split = {split: one for one in tables if (split := parse_split(stem_of_table(one)))}
    if len(by_split) > 1 and len(by_split) == len(tables):
        return _joined({split: read_table(entry) for split, entry in by_split.items()})
    if tables:
        names = identifiers.listed([entry.name for entry in tables])
        raise TableError(
            f"{path} holds {len(tables)} tables, and none is called {TABLE_NAME}{names}.",
            "Give the one that is meant with --data.",
        )
    return None


def _joined(tables: dict[Split, Table]) -> Table:
    """train.csv, val.csv, test.csv → one table with a split column."""
    first = next(iter(tables.values()))
    for table in tables.values():
        if table.header != first.header:
            raise TableError(
                f"{table.source.name} and {first.source.name} have different columns.",
                "Give them the same header, or one table with a split column.",
            )
    keep = [i for i, name in enumerate(first.header) if name != "split"]
    rows = tuple(
        (*(row[i] for i in keep), split) for split, table in tables.items() for row in table.rows
    )
    lines = tuple(line for table in tables.values() for line in table.lines)
    return Table(first.source, (*(first.header[i] for i in keep), "split"), rows, lines)
