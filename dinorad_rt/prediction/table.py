"""Answers as a table that grows part by part, survives interruption, and is joined at the end.

OUT/predict.json          the question: bundle, engine, input, options
OUT/parts/000000.parquet  answers of some items; complete or absent
OUT/predictions.parquet   all of them, and predictions.csv for people
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dinorad_rt.errors import DataError, OutputExistsError
from dinorad_rt.files import atomic_path, claim_output_dir, read_json, sha256_json, write_json
from dinorad_rt.words import spreadsheet_cell

QUESTION_FILE = "predict.json"
PARTS_FOLDER = "parts"
TABLE_FILE = "predictions.parquet"
CSV_FILE = "predictions.csv"


@dataclass(frozen=True)
class Answer:
    """What became of one item.

    Attributes:
        key: of the item.
        slices: that were looked at; 0 if it failed.
        values: column → value; empty if it failed.
        reason: why it failed; empty if it did not.
        file: path relative to the input, only where identifiers are kept.
    """

    key: str
    slices: int = 0
    values: Mapping[str, float | str] = field(default_factory=dict)
    reason: str = ""
    file: str | None = None


class AnswerTable:
    """The table of one output folder.

    Attributes:
        folder: of the results.
        columns: name → "float" or "text", of the answers' values.
        done: keys that are answered already.
    """

    def __init__(
        self,
        folder: Path,
        question: Mapping[str, Any],
        columns: Mapping[str, str],
        *,
        with_files: bool = False,
    ) -> None:
        """Make the folder, or go on in it.

        Raises:
            OutputExistsError: it holds something else, or answers to another question.
            NoSpaceError: the disk is full.
        """
        self.folder = claim_output_dir(folder, QUESTION_FILE)
        self.columns = dict(columns)
        self._with_files = with_files
        self._claim(question)
        self.done = {key for part in self._parts() for key in _keys(part)}

    def add(self, answers: Sequence[Answer]) -> None:
        """Write a part; it is there as a whole or not at all."""
        import pyarrow.parquet as pq

        if not answers:
            return
        parts = self._parts()
        number = int(parts[-1].stem) + 1 if parts else 0
        target = self.folder / PARTS_FOLDER / f"{number:06d}.parquet"
        with atomic_path(target) as part:
            pq.write_table(self._arrow(answers), part)
        self.done.update(answer.key for answer in answers)

    def finish(self, order: Sequence[str]) -> dict[str, int]:
        """Join the parts in the order of keys, as Parquet and CSV.

        Returns:
            Number of `answered` and `failed` items.
        """
        import pyarrow.parquet as pq

        place = {key: index for index, key in enumerate(order)}
        rows = [row for row in self.rows() if row["item"] in place]
        rows.sort(key=lambda row: place[row["item"]])
        with atomic_path(self.folder / TABLE_FILE) as part:
            pq.write_table(self._from_rows(rows), part)
        with (
            atomic_path(self.folder / CSV_FILE) as part,
            part.open("w", encoding="utf-8", newline="") as file,
        ):
            names = self._schema().names
            writer = csv.writer(file)
            writer.writerow(map(spreadsheet_cell, names))
            writer.writerows([_cell(row.get(name)) for name in names] for row in rows)
        failed = sum(row["status"] == "failed" for row in rows)
        return {"answered": len(rows) - failed, "failed": failed}

    def rows(self) -> list[dict[str, Any]]:
        """Every answer so far, in the order in which it was given."""
        return [row for part in self._parts() for row in _read(part).to_pylist()]

    def _claim(self, question: Mapping[str, Any]) -> None:
        path = self.folder / QUESTION_FILE
        if not path.exists():
            write_json(path, question)
            return
        try:
            before, now = read_json(path), dict(question)
        except ValueError as error:
            raise DataError(
                f"{QUESTION_FILE} of {self.folder} cannot be read: {error}.",
                "Its answers belong to an unknown question: choose another --out.",
            ) from error
        differing = [k for k in now if sha256_json(before.get(k)) != sha256_json(now[k])]
        if differing:
            raise OutputExistsError(
                f"{self.folder} holds answers to another question; they differ in: "
                f"{', '.join(differing)}.",
                "Choose another --out, or give the same options to go on with it.",
            )

    def _parts(self) -> list[Path]:
        return sorted((self.folder / PARTS_FOLDER).glob("[0-9]*.parquet"))

    def _schema(self) -> Any:
        import pyarrow as pa

        kinds = {"float": pa.float64(), "text": pa.string()}
        files = [("file", pa.string())] if self._with_files else []
        return pa.schema(
            [
                ("item", pa.string()),
                *files,
                ("status", pa.string()),
                ("slices", pa.int32()),
                *((name, kinds[kind]) for name, kind in self.columns.items()),
                ("reason", pa.string()),
            ]
        )

    def _arrow(self, answers: Sequence[Answer]) -> Any:
        rows = [
            {
                "item": one.key,
                "file": one.file,
                "status": "failed" if one.reason else "ok",
                "slices": one.slices,
                "reason": one.reason,
                **one.values,
            }
            for one in answers
        ]
        return self._from_rows(rows)

    def _from_rows(self, rows: Sequence[Mapping[str, Any]]) -> Any:
        import pyarrow as pa

        schema = self._schema()
        columns = {name: [row.get(name) for row in rows] for name in schema.names}
        return pa.table(columns, schema)


def _cell(value: Any) -> Any:
    """A value as a cell of the CSV; one that is not known (no spacing, no volume) stays empty."""
    return "" if isinstance(value, float) and math.isnan(value) else spreadsheet_cell(value)


def _keys(part: Path) -> list[str]:
    keys: list[str] = _read(part, ["item"]).column("item").to_pylist()
    return keys


def _read(part: Path, columns: list[str] | None = None) -> Any:
    """Rows of a part.

    Raises:
        DataError: it was damaged.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(part, columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(
            f"{PARTS_FOLDER}/{part.name} of the answers cannot be read: {error}",
            "Delete it and run the same command again; its items are answered once more: "
            f"rm {part}",
        ) from error
