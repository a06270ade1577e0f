"""Boxes and polygons in a table, which are no masks: refused with what to do."""

from __future__ import annotations

import re

from dinorad_rt.datasets.table import Table, simple_name
from dinorad_rt.errors import TableError

_CORNERS = (
    {"xmin", "ymin", "xmax", "ymax"},
    {"x1", "y1", "x2", "y2"},
    {"x", "y", "width", "height"},
    {"x", "y", "w", "h"},
)
_NAMES = frozenset(
    "bbox bboxes boundingbox boundingboxes box boxes polygon polygons contour contours points "
    "vertices coordinates landmarks predictionstring".split()
)
_COORDINATES = re.compile(r"[\[({].*\d.*[\])}]|-?\d+(\.\d+)?([\s,;]+-?\d+(\.\d+)?){3,}", re.DOTALL)


def refuse_outlines(table: Table, column: str | None) -> None:
    """Refuse a table whose masks would be boxes or polygons.

    Args:
        table: the table.
        column: of the masks, whose cells name no files; None where there is none.

    Raises:
        TableError: cells of coordinates; without a column, columns that are usual for them.
    """
    if column is not None:
        cells = [cell for cell in table.column(column) if cell]
        found = [column] if cells and all(map(_COORDINATES.fullmatch, cells)) else []
    else:
        simple = {simple_name(name): name for name in table.header}
        corners = next((set(one) for one in _CORNERS if one <= simple.keys()), set())
        found = [simple[name] for name in simple if name in corners | _NAMES]
    if found:
        raise TableError(
            f"{table.source.name} holds boxes or polygons ({', '.join(found)}), no masks.",
            "Draw them into mask files of one number per pixel, and name these in a column; a box "
            "alone tells no outline.",
        )
