"""Contact sheet: a PNG of what the network would see of each series."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import DinoradError, EmptyDataError
from dinorad_rt.files import atomic_path
from dinorad_rt.optional import require
from dinorad_rt.studies.read import read_study

if TYPE_CHECKING:
    from dinorad_rt.preprocessing.spec import PreprocessSpec
    from dinorad_rt.studies.inspect import InspectedSeries, Inspection

TILES_PER_SERIES = 8
MAX_SERIES = 24
CAPTION = 16
"""Height of the caption below each tile, in pixels."""


def contact_sheet(
    inspection: Inspection,
    target: Path,
    *,
    preprocessing: str = "dinorad",
    model: str = "vits14",
    image_size: int = 224,
) -> Path:
    """Write the network's view of up to eight slices of each series, one row per series.

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
    rows = [
        (f"{number}", list(_tiles(one, spec)))
        for number, one in enumerate(inspection.series[:MAX_SERIES], start=1)
    ]
    rows = [(number, tiles) for number, tiles in rows if tiles]
    if not rows:
        raise EmptyDataError("No series to show.", "See the problems that `inspect` lists.")
    sheet = _drawn(rows, image_size)
    with atomic_path(target) as part:
        sheet.save(part, format="PNG")
    return target


def _drawn(rows: list[tuple[str, list[tuple[str, np.ndarray]]]], size: int) -> Any:
    """The sheet as a PIL image: one row of captioned tiles per series."""
    image_module = require("PIL.Image", "writing PNG")
    draw_module = require("PIL.ImageDraw", "writing PNG")
    columns = max(len(tiles) for _, tiles in rows)
    step = size + CAPTION
    sheet = image_module.new("RGB", (columns * size, len(rows) * step))
    draw = draw_module.Draw(sheet)
    for y, (number, tiles) in enumerate(rows):
        for x, (caption, tile) in enumerate(tiles):
            sheet.paste(image_module.fromarray(tile), (x * size, y * step))
            at = (x * size + 2, y * step + size + 2)
            draw.text(at, f"{number}: {caption}", fill=(255, 255, 255))
    return sheet


def _tiles(series: InspectedSeries, spec: PreprocessSpec) -> Iterator[tuple[str, np.ndarray]]:
    """(caption, (size, size, 3) uint8) of evenly spaced slices."""
    from dinorad_rt.preprocessing.pipeline import Preprocessor

    preprocess = Preprocessor(spec)
    for path in _spread(series.files, TILES_PER_SERIES):
        try:
            study = read_study(path).displayed()
        except DinoradError:
            continue
        count = TILES_PER_SERIES if len(series.files) == 1 else 1
        for index in _spread(range(study.num_slices), count):
            values = preprocess(study.slice(index))
            caption = f"{index + 1}/{study.num_slices}" if study.num_slices > 1 else "image"
            yield caption, _shown(values, spec)


def _shown(values: np.ndarray, spec: PreprocessSpec) -> np.ndarray:
    """Undo the normalisation: (3, size, size) float → (size, size, 3) uint8."""
    std, mean = (np.asarray(part).reshape(3, 1, 1) for part in (spec.std, spec.mean))
    grey = np.clip(values * std + mean, 0.0, 1.0)
    return np.ascontiguousarray(np.rint(grey * 255).astype(np.uint8).transpose(1, 2, 0))


def _spread(items: Any, count: int) -> list[Any]:
    """At most `count` evenly spaced items, in the middle of equal parts."""
    total = len(items)
    if total <= count:
        return list(items)
    return [items[(2 * i + 1) * total // (2 * count)] for i in range(count)]
