"""A mask drawn as outlines over its image: what lies below stays visible.

Each line lies on a dark rim, so that it shows on bone and on air. Colours are those of `palette`;
from the seventh class on the lines are dashed, then dotted.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dinorad_rt.reports.palette import COLOURS, place_of, rgb_of, style_of
from dinorad_rt.reports.viewing import png_bytes

SIDE = 400
"""Longer side of a picture in pixels."""
_GREYS = 200
_DASHES = {"dashed": (14, 9), "dotted": (6, 3)}


def outlined_png(
    picture: np.ndarray,
    mask: np.ndarray | None = None,
    spacing: Sequence[float] | None = None,
) -> bytes:
    """A PNG of a slice in its true proportion, with outlines if a mask is given.

    Args:
        picture: (height, width, 3) in [0, 1].
        mask: (height, width) class indices, 0 = background; None for the image alone.
        spacing: (row, column) millimetres; None for square pixels.
    """
    from PIL import Image

    size = _size(picture.shape[:2], spacing)
    image = Image.fromarray(np.rint(picture * 255).astype(np.uint8))
    colour = np.asarray(image.resize(size, Image.Resampling.BICUBIC))
    lines = {} if mask is None else outlines(mask, size)
    if np.ptp(colour.astype(np.int16), axis=2).max() > 0:
        return png_bytes(Image.fromarray(_on_colour(colour, lines)))
    indexed = Image.fromarray(_on_grey(colour[..., 0], lines), mode="P")
    indexed.putpalette(_palette())
    return png_bytes(indexed)


def outlines(mask: np.ndarray, size: tuple[int, int]) -> dict[int, np.ndarray]:
    """Class → where its line runs, two pixels wide and inside of the class.

    Args:
        mask: (height, width) class indices.
        size: (width, height) of the picture.

    Returns:
        Bool arrays (height, width) of the picture; a class that is not in the mask is left out.
    """
    from PIL import Image
    from scipy.ndimage import binary_erosion

    found = {}
    for index in map(int, np.unique(mask[mask > 0])):
        share = Image.fromarray((mask == index).astype(np.float32))
        grown = np.asarray(share.resize(size, Image.Resampling.BILINEAR))
        inside = grown >= min(0.5, 0.9 * float(grown.max()))  # a class of few pixels stays
        found[index] = inside & ~np.asarray(binary_erosion(inside, iterations=2), bool)
    return found


def _size(shape: tuple[int, ...], spacing: Sequence[float] | None) -> tuple[int, int]:
    """(width, height) of the picture."""
    tall, wide = (1.0, 1.0) if spacing is None else spacing
    height, width = shape[0] * tall, shape[1] * wide
    scale = SIDE / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _on_grey(grey: np.ndarray, lines: dict[int, np.ndarray]) -> np.ndarray:
    """Palette indices: greys, then the colours of the classes."""
    result: np.ndarray = np.rint(grey.astype(np.float32) * ((_GREYS - 1) / 255)).astype(np.uint8)
    rim = _rim(lines)
    if rim is not None:
        result[rim] = result[rim] // 4
    for index, line in lines.items():
        result[line & _pattern(index, line.shape)] = _GREYS + place_of(index)
    return result


def _on_colour(picture: np.ndarray, lines: dict[int, np.ndarray]) -> np.ndarray:
    result = picture.copy()
    rim = _rim(lines)
    if rim is not None:
        result[rim] = result[rim] // 4
    for index, line in lines.items():
        result[line & _pattern(index, line.shape)] = rgb_of(index)
    return result


def _rim(lines: dict[int, np.ndarray]) -> np.ndarray | None:
    """One dark pixel around all lines."""
    from scipy.ndimage import binary_dilation

    if not lines:
        return None
    every = np.logical_or.reduce(list(lines.values()))
    return np.asarray(binary_dilation(every, structure=np.ones((3, 3), bool)))


def _pattern(index: int, shape: tuple[int, ...]) -> np.ndarray:
    """Where a line of this class is drawn: everywhere, in dashes or in dots."""
    kind = style_of(index)[1]
    if kind not in _DASHES:
        return np.ones(shape, bool)
    period, drawn = _DASHES[kind]
    rows, columns = np.indices(shape)
    pattern: np.ndarray = (rows + columns) % period < drawn
    return pattern


def _palette() -> list[int]:
    greys = np.rint(np.linspace(0, 255, _GREYS)).astype(int)
    return [int(v) for grey in greys for v in (grey, grey, grey)] + [
        channel for index in range(1, len(COLOURS) + 1) for channel in rgb_of(index)
    ]
