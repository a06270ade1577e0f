"""Contact sheet: a PNG of what the network would see of each series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from dinorad_rt.errors import DinoradError, EmptyDataError
from dinorad_rt.files import atomic_path
from dinorad_rt.optional import require
from dinorad_rt.studies.read import read_study

if TYPE_CHECKING:
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.studies.inspect import InspectedSeries, Inspection

TILES_PER_SERIES = 8
COLUMNS = 8
MAX_SERIES = 24
CAPTION = 16
"""Height of the caption below each tile, in pixels."""

Tile: TypeAlias = tuple[str, np.ndarray]
"""Caption, and (size, size, 3) uint8."""


def contact_sheet(
    inspection: Inspection,
    target: Path,
    *,
    preprocessing: str = "dinorad",
    model: str = "vits14",
    image_size: int = 224,
) -> Path:
    """Write the network's view of up to eight slices of each series, in the table's order.

    Of more than MAX_SERIES, evenly spaced ones. Tiles carry the number of their series in the
    table; slices of one series stand in one row.

    Args:
        inspection: from `inspect_path`.
        target: the PNG.
        preprocessing: preset.
        model: backbone whose preprocessing is shown.
        image_size: side of a tile in pixels.

    Raises:
        EmptyDataError: no series could be read.
    """
    from dinorad_rt.backbones.registry import get_spec
    from dinorad_rt.preprocessing.presets import preset

    spec = preset(preprocessing, get_spec(model), image_size)
    groups = [
        list(_tiles(f"{number} {one.facts['modality']}".removesuffix(" -"), one, spec))
        for number, one in _spread(list(enumerate(inspection.series, start=1)), MAX_SERIES)
    ]
    if not any(groups):
        raise EmptyDataError("No series to show.", "See the problems that `inspect` lists.")
    sheet = _drawn(_rows(groups), image_size)
    with atomic_path(target) as part:
        sheet.save(part, format="PNG")
    return target


def _rows(groups: list[list[Tile]]) -> list[list[Tile]]:
    """Fill rows with whole groups; one that does not fit into the rest of a row begins the next."""
    rows: list[list[Tile]] = [[]]
    for group in groups:
        if len(rows[-1]) + len(group) > COLUMNS:
            rows.append([])
        rows[-1] += group
    return [row for row in rows if row]


def _drawn(rows: list[list[Tile]], size: int) -> Any:
    """The sheet as a PIL image: rows of captioned tiles."""
    image_module = require("PIL.Image", "writing PNG")
    draw_module = require("PIL.ImageDraw", "writing PNG")
    step = size + CAPTION
    sheet = image_module.new("RGB", (max(map(len, rows)) * size, len(rows) * step))
    draw = draw_module.Draw(sheet)
    for y, tiles in enumerate(rows):
        for x, (caption, tile) in enumerate(tiles):
            sheet.paste(image_module.fromarray(tile), (x * size, y * step))
            draw.text((x * size + 2, y * step + size + 2), caption, fill=(255, 255, 255))
    return sheet


def _tiles(name: str, series: InspectedSeries, spec: PreprocessSpec) -> Iterator[Tile]:
    """Tiles of evenly spaced slices."""
    from dinorad_rt.preprocessing.pipeline import Preprocessor
    from dinorad_rt.preprocessing.reference import picture_of

    preprocess = Preprocessor(spec)
    files = len(series.files)
    for at in _spread(range(files), TILES_PER_SERIES):
        try:
            study = read_study(series.files[at]).displayed()
            slices = _spread(range(study.num_slices), TILES_PER_SERIES if files == 1 else 1)
            views = [picture_of(preprocess(study.slice(index)), spec) for index in slices]
        except DinoradError:
            continue
        for index, view in zip(slices, views, strict=True):
            place, total = (at, files) if files > 1 else (index, study.num_slices)
            caption = f"{name} {place + 1}/{total}" if total > 1 else name
            yield caption, np.ascontiguousarray(np.rint(view * 255).astype(np.uint8))


def _spread(items: Any, count: int) -> list[Any]:
    """At most `count` evenly spaced items, in the middle of equal parts."""
    total = len(items)
    if total <= count:
        return list(items)
    return [items[(2 * i + 1) * total // (2 * count)] for i in range(count)]
