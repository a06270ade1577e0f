"""Fonts of words in pictures: DejaVu Sans, and for letters that it lacks what is installed.

DejaVu Sans comes with matplotlib and has Latin, Greek, Cyrillic, Arabic and Hebrew; Chinese,
Japanese, Korean and many others need a font of the machine.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

MISSING = "Letters that no font here has are left out: install one, such as fonts-noto-cjk."


@cache
def picture_font(text: str = "") -> FreeTypeFont:
    """A font that has every letter of a text; DejaVu Sans where there is none."""
    from PIL import ImageFont

    return ImageFont.truetype(font_path(text) or _dejavu(), 12)


def font_path(text: str) -> Path | None:
    """The file of a font that has every letter of a text, of which DejaVu is the first choice."""
    return _font_with(frozenset(text))


def drawn(text: str) -> str:
    """What of a text `picture_font` can draw: all, or without the letters that no font here has."""
    if font_path(text) is not None:
        return text
    known = _letters(_dejavu(), frozenset(text))
    return " ".join("".join(letter for letter in text if letter in known).split())


@contextmanager
def letters_of(figure: Any, *, by_reader: bool = False) -> Iterator[None]:
    """Give the words of a matplotlib figure the letters that DejaVu Sans lacks, where it can be.

    Args:
        figure: about to be saved.
        by_reader: who shows it brings fonts, as a browser does: what is missing here is no matter.
    """
    from matplotlib import font_manager
    from matplotlib.text import Text

    texts = figure.findobj(Text)
    letters = frozenset("".join(text.get_text() for text in texts))
    found = _font_with(letters - _letters(_dejavu(), letters))
    if found not in (None, _dejavu()):
        font_manager.fontManager.addfont(found)
        name = font_manager.FontProperties(fname=found).get_name()
        for text in texts:
            text.set_fontfamily(["sans-serif", name])
    with warnings.catch_warnings():
        if by_reader:
            warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


@cache
def _font_with(letters: frozenset[str]) -> Path | None:
    """The first font that has all of these letters; whitespace needs none."""
    from matplotlib.font_manager import findSystemFonts

    wanted = frozenset(letter for letter in letters if not letter.isspace())
    if _letters(_dejavu(), wanted) == wanted:
        return _dejavu()
    for path in sorted(findSystemFonts()):
        try:
            if _letters(Path(path), wanted) == wanted:
                return Path(path)
        except (OSError, RuntimeError, ValueError):  # a file that is no font FreeType reads
            continue
    return None


def _letters(path: Path, wanted: frozenset[str]) -> frozenset[str]:
    """Those of the letters that a font has."""
    from matplotlib.ft2font import FT2Font

    font = FT2Font(str(path))
    return frozenset(letter for letter in wanted if font.get_char_index(ord(letter)))


@cache
def _dejavu() -> Path:
    import matplotlib

    return Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
