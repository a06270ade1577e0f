"""Colours of classes: the same in the report's outlines, in overlays and in DICOM SEG.

The first six are the light ones of Okabe and Ito (https://jfly.uni-koeln.de/color/). The others
were chosen one by one, each as far as can be in OKLab from all before, as people with full colour
vision, protanopia and deuteranopia (Machado et al. 2009) see it; all stand out from black and from
grey. Beyond a dozen no palette is safe without red and green: outlines differ in their line, too.
"""

from __future__ import annotations

COLOURS = (
    *("#E69F00", "#56B4E9", "#CC79A7", "#009E73", "#F0E442", "#D55E00"),
    *("#8778E1", "#1EFFF0", "#B41EA5", "#3CD296", "#693CFF", "#A54B4B"),
    *("#FF78D2", "#D20F0F", "#96D2FF", "#0069C3", "#A5FFA5", "#FF4B69"),
    *("#B4E1A5", "#B44B87", "#F0B4C3", "#A569B4", "#B4D25A", "#8796FF"),
)
LINES = ("solid", "dashed", "dotted")
COLOURS_OF_LINE = 6
"""Classes after which the kind of line changes."""


def style_of(index: int) -> tuple[str, str]:
    """Colour (#RRGGBB) and kind of line of class `index`, 1 being the first after background."""
    return COLOURS[place_of(index)], LINES[(index - 1) // COLOURS_OF_LINE % len(LINES)]


def rgb_of(index: int) -> tuple[int, int, int]:
    """Red, green and blue of class `index`, each from 0 to 255."""
    text = COLOURS[place_of(index)]
    return int(text[1:3], 16), int(text[3:5], 16), int(text[5:7], 16)


def place_of(index: int) -> int:
    """Place in `COLOURS` of class `index`, 1 being the first after background."""
    return (index - 1) % len(COLOURS)
