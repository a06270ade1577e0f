"""Masks drawn in colours over their slices, as one PNG to look at."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.files import atomic_path
from dinorad_rt.reports.fonts import MISSING, drawn, picture_font
from dinorad_rt.reports.palette import COLOURS, rgb_of
from dinorad_rt.reports.viewing import wrapped_words

if TYPE_CHECKING:
    import PIL.Image

    from dinorad_rt.studies.study import Study

TILES = 9
"""Slices of a volume that are shown."""
SIDE_OF_IMAGE, SIDE_OF_SLICE = 512, 256
"""Height of a tile in pixels: of an image that stands alone, and of one slice of several."""
GAP = 4
LINE = 18
"""Height of a line of text in pixels."""
WORDS = "Not for clinical use."
LEAST_WIDTH = 200
KEY_INDENT = 26
FEW_KEYS = 6
"""Classes of a legend up to which they stand below each other, for each column of it."""
MOST_LETTERS = 80
"""Of a class name in a legend."""
_OPACITY = 0.45
_WHITE = (255, 255, 255)


def write_overlay(path: Path, mask: np.ndarray, study: Study, class_names: Sequence[str]) -> None:
    """A PNG of up to nine slices with the mask in colours, and a legend.

    Slices are spread over those with a mask, or over all if there is none; each carries its number
    in the order of the display. A single image stands beside itself without the mask. Colours are
    those of the report's pictures; the legend has each class's value in the mask.

    Args:
        path: ending in .png.
        mask: (slices, height, width) uint8 in the study's grid.
        study: as `Item.read` gave it.
        class_names: background first.
    """
    from PIL import Image, ImageDraw

    cells = list(_cells(mask, study))
    columns = int(np.ceil(np.sqrt(len(cells))))
    height, width = cells[0][1].shape[:2]
    down, right = height + LINE + GAP, width + GAP
    legend = _legend(class_names, max(columns * right - GAP, LEAST_WIDTH))
    top = -(-len(cells) // columns) * down
    picture = Image.new("RGB", (legend.width, top + legend.height))
    draw = ImageDraw.Draw(picture)
    for number, (words, tile) in enumerate(cells):
        at = (number % columns * right, number // columns * down)
        picture.paste(Image.fromarray(tile), at)
        draw.text((at[0] + 2, at[1] + height + 2), words, fill=_WHITE, font=picture_font(words))
    picture.paste(legend, (0, top))
    with atomic_path(path) as part:
        picture.save(part, format="PNG")


def _legend(class_names: Sequence[str], width: int) -> PIL.Image.Image:
    """Colour, value and name of each class, in as many columns as the width has room for."""
    from PIL import Image, ImageDraw

    names = [f"{value} {_shortened(name)}" for value, name in enumerate(class_names)][1:]
    keys = list(map(drawn, names))
    wide = KEY_INDENT + ceil(max(picture_font(key).getlength(key) for key in keys)) + 2 * GAP
    width = max(width, wide)
    beside = max(1, min(width // wide, len(keys) // FEW_KEYS))
    below = -(-len(keys) // beside)
    repeated = f"Colours repeat after {len(COLOURS)} classes. " if len(keys) > len(COLOURS) else ""
    said = f"{repeated}{WORDS} {MISSING if keys != names else ''}"
    words = wrapped_words(said.strip(), width - 12)
    legend = Image.new("RGB", (width, LINE * (below + len(words))))
    draw = ImageDraw.Draw(legend)
    write = partial(draw.text, fill=_WHITE)
    for number, key in enumerate(keys):
        left, top = number // below * (width // beside), LINE * (number % below)
        draw.rectangle((left + 6, top + 2, left + 18, top + 14), fill=rgb_of(number + 1))
        write((left + KEY_INDENT, top + 2), key, font=picture_font(key))
    for number, line in enumerate(words):
        write((6, LINE * (below + number) + 2), line, font=picture_font(line))
    return legend


def _shortened(name: str) -> str:
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1]}…"


def _cells(mask: np.ndarray, study: Study) -> Iterator[tuple[str, np.ndarray]]:
    """Words and picture of each tile."""
    from dinorad_rt.training.segmentation.grid import undisplayed

    shown = study.displayed()
    turned = undisplayed(mask, study)  # the same flips turn it to the display
    if len(turned) == 1:
        slice_ = shown.slice(0)
        yield "image", _tile(slice_, np.zeros_like(turned[0]), SIDE_OF_IMAGE)
        yield "prediction", _tile(slice_, turned[0], SIDE_OF_IMAGE)
        return
    filled = np.flatnonzero(turned.any(axis=(1, 2)))
    for index in _spread(filled if len(filled) else np.arange(len(turned)), TILES):
        words = f"slice {index + 1} of {len(turned)}"
        yield words, _tile(shown.slice(int(index)), turned[index], SIDE_OF_SLICE)


def _tile(slice_: Study, mask: np.ndarray, side: int) -> np.ndarray:
    """One slice as RGB, `side` pixels high, rows and columns in their true proportion."""
    from PIL import Image

    grey = _grey(slice_)
    colour = np.repeat((grey * 255).astype(np.uint8)[..., None], 3, axis=2).astype(np.float64)
    for index in np.unique(mask[mask > 0]):
        where = mask == index
        colour[where] = (1 - _OPACITY) * colour[where] + _OPACITY * np.asarray(rgb_of(int(index)))
    height, width = mask.shape
    tall, wide = (1.0, 1.0) if slice_.spacing is None else slice_.spacing[1:]
    size = (max(1, round(width * wide * side / (height * tall))), side)
    picture = Image.fromarray(colour.astype(np.uint8))
    return np.asarray(picture.resize(size, Image.Resampling.BILINEAR))


def _grey(slice_: Study) -> np.ndarray:
    """(height, width) in [0, 1], windowed as `dinorad` does, at the slice's own resolution."""
    from dinorad_rt.preprocessing.geometry import geometry
    from dinorad_rt.preprocessing.pipeline import Preprocessor
    from dinorad_rt.preprocessing.spec import PreprocessSpec

    height, width = slice_.pixels.shape[1:3]
    plain = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    spec = PreprocessSpec(max(height, width), *plain, resize="pad")
    plan = geometry(height, width, spec)
    top, left = plan.rows.offset, plan.columns.offset
    grey: np.ndarray = Preprocessor(spec)(slice_)[0, top : top + height, left : left + width]
    return grey


def _spread(indexes: np.ndarray, count: int) -> np.ndarray:
    if len(indexes) <= count:
        return indexes
    chosen: np.ndarray = indexes[np.linspace(0, len(indexes) - 1, count).round().astype(int)]
    return chosen
