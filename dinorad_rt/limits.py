"""Ranges of numbers that the command line and study files share; both ends count."""

from __future__ import annotations

IMAGE_SIZES = (14, 8192)
"""Side of the network's input in pixels."""

SEEDS = (0, 2**32 - 1)
