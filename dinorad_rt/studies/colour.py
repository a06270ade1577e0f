"""Colour that is none: most radiology exports store grey as RGB; one channel says it all."""

from __future__ import annotations

import numpy as np


def without_colour(pixels: np.ndarray) -> np.ndarray:
    """Drop the colour axis if all three channels are equal everywhere, else return as given.

    Args:
        pixels: (..., 3) RGB of any dtype.

    Returns:
        (...) grey, contiguous, or the same (..., 3). Equal channels are their own luma, so no
        rule of conversion is involved.
    """
    first, second, third = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    sparse = (..., slice(None, None, 16), slice(None))  # a coloured image gives itself away soon
    if not _equal(first[sparse], second[sparse]) or not _equal(first[sparse], third[sparse]):
        return pixels
    if _equal(first, second) and _equal(first, third):
        return np.ascontiguousarray(first)
    return pixels


def over_black(pixels: np.ndarray) -> tuple[np.ndarray, bool]:
    """Lay colour or grey with an alpha channel over black, as a reading room shows it.

    Args:
        pixels: (..., channels + alpha), uint8 or uint16, alpha last and not premultiplied.

    Returns:
        The channels, rounded to nearest; and whether anything was transparent at all.
    """
    alpha, channels = pixels[..., -1:], pixels[..., :-1]
    opaque = int(np.iinfo(pixels.dtype).max)
    if bool((alpha == opaque).all()):
        return np.ascontiguousarray(channels), False
    mixed = channels.astype(np.uint64) * alpha + opaque // 2
    return (mixed // opaque).astype(pixels.dtype), True


def _equal(first: np.ndarray, second: np.ndarray) -> bool:
    return bool((first == second).all())
