"""Tables with a row for each image and finding, `ID_12cadc6af_subdural`: one row per image."""

from __future__ import annotations

from dinorad_rt.datasets.locate import Locator
from dinorad_rt.datasets.table import ALIASES, Table, simple_name
from dinorad_rt.errors import TableError
from dinorad_rt.words import count_of

MAX_FINDINGS = 60
_PROBED_ROWS = 50
_IMAGES = frozenset(("id", *ALIASES["image"], *ALIASES["sop"]))
_FLAGS = {"0": "0", "1": "1", "0.0": "0", "1.0": "1", "false": "0", "true": "1"}


def widened(table: Table, locator: Locator) -> tuple[Table, list[str]]:
    """One row per image and a column per finding, of a table with a row for each of both.

    That is a table of two columns, as RSNA's intracranial haemorrhage set has it: the cells of one
    are those of files with `_FINDING` behind it, every image has the same findings, and the label
    is 0 or 1.

    Returns:
        The table, changed or as it is, and what to say.

    Raises:
        TableError: an image and finding with both 0 and 1.
    """
    label = table.find("label", None)
    column = next((one for one in table.header if simple_name(one) in _IMAGES), None)
    if label is None or column is None or len(table.header) != 2:
        return table, []
    if any(map(locator.find, table.column(column)[:_PROBED_ROWS])):
        return table, []
    named = [cell.rpartition("_")[::2] for cell in table.column(column)]
    images = list(dict.fromkeys(image for image, _ in named))
    findings = list(dict.fromkeys(finding for _, finding in named))
    values = [_FLAGS.get(cell.lower(), "") for cell in table.column(label)]
    held = dict(zip(named, values, strict=True))
    complete = len(held) == len(images) * len(findings) and 1 < len(findings) <= MAX_FINDINGS
    if not complete or "" in (*images, *findings, *values):
        return table, []
    if not any(map(locator.find, images[:_PROBED_ROWS])):
        return table, []
    if any(held[key] != value for key, value in zip(named, values, strict=True)):
        raise TableError(
            f"{table.source.name}: an image and finding of column {column!r} has both 0 and 1.",
            "Keep one row of each.",
        )
    first = dict(zip((image for image, _ in reversed(named)), reversed(table.lines), strict=True))
    rows = tuple((image, *(held[image, finding] for finding in findings)) for image in images)
    wide = Table(table.source, (column, *findings), rows, tuple(first[one] for one in images))
    return wide, [
        f"column {column!r} names images and findings: {count_of(len(images), 'image')}, "
        f"{count_of(len(findings), 'finding')} each"
    ]
