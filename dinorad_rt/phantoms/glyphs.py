"""Lead letters of side markers."""

from __future__ import annotations

import numpy as np

_LETTERS = {
    "L": ("10000", "10000", "10000", "10000", "10000", "10000", "11111"),
    "R": ("11110", "10001", "10001", "11110", "10100", "10010", "10001"),
}


def glyph(letter: str, scale: int) -> np.ndarray:
    """(7 × scale, 5 × scale) array of 0 and 1 with a letter, L or R."""
    rows = [[float(bit) for bit in row] for row in _LETTERS[letter]]
    return np.kron(np.asarray(rows), np.ones((scale, scale)))
