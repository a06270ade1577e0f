"""Names in any script: in pictures by an installed font, else without what no font has."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from PIL import Image

from dinorad_rt.prediction.overlays import _legend
from dinorad_rt.reports import fonts
from dinorad_rt.reports.plots import line_plot, new_axes, save_figure

LESION = "\N{CJK UNIFIED IDEOGRAPH-75C5}\N{CJK UNIFIED IDEOGRAPH-5909}"


def _font(path: Path) -> None:
    """A font with ASCII, as fonts for Chinese have, and the letters of `LESION`: full squares."""
    pen = TTGlyphPen(None)
    pen.moveTo((50, 0))
    for corner in ((50, 800), (950, 800), (950, 0)):
        pen.lineTo(corner)
    pen.closePath()
    letters = [*map(chr, range(32, 127)), *LESION]
    names = [".notdef", *(f"u{ord(letter):04X}" for letter in letters)]
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap(dict(zip(map(ord, letters), names[1:], strict=True)))
    builder.setupGlyf({name: pen.glyph() for name in names})
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 50)))
    builder.setupHorizontalHeader(ascent=850, descent=-150)
    builder.setupNameTable({"familyName": "Lesions", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[list[str]]:
    """Files of the fonts of the machine; none at first."""
    files: list[str] = []
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: files)
    known = list(font_manager.fontManager.ttflist)
    for found in (fonts._font_with, fonts.picture_font):
        found.cache_clear()
    yield files
    font_manager.fontManager.ttflist = known
    for found in (fonts._font_with, fonts.picture_font):
        found.cache_clear()


def test_a_font_of_the_machine_is_taken_for_what_dejavu_lacks(
    installed: list[str], tmp_path: Path
) -> None:
    broken = tmp_path / "a.ttf"
    broken.write_bytes(b"no font")
    _font(tmp_path / "lesions.ttf")
    installed += [str(broken), str(tmp_path / "lesions.ttf")]
    assert fonts.font_path(LESION) == tmp_path / "lesions.ttf"
    assert fonts.drawn(LESION) == LESION
    for words in ("Lungenherd", "Очаг", "آفة"):
        path = fonts.font_path(words)
        assert path is not None and path.name == "DejaVuSans.ttf"
    pixels = np.asarray(_legend(["background", LESION], 200))
    without = np.asarray(_legend(["background", "Herd"], 200))
    assert pixels.shape == without.shape  # one line of words: nothing is missing


def test_without_a_font_the_number_stays_and_it_is_said(installed: list[str]) -> None:
    assert fonts.font_path(LESION) is None
    assert fonts.drawn(f"1 {LESION}") == "1" and fonts.drawn(f"{LESION} left") == "left"
    told = _legend(["background", LESION], 200)
    plain = _legend(["background", "1"], 200)
    assert isinstance(told, Image.Image) and told.height > plain.height


def test_plots_take_it_beside_their_own(installed: list[str], tmp_path: Path) -> None:
    _font(tmp_path / "lesions.ttf")
    figure, _ = new_axes(LESION, "AUROC")
    with pytest.warns(UserWarning, match="Glyph"):
        save_figure(figure, tmp_path / "without.png")
    installed.append(str(tmp_path / "lesions.ttf"))
    fonts._font_with.cache_clear()
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a box is a warning of matplotlib
        save_figure(figure, tmp_path / "with.png")
    assert figure.axes[0].xaxis.label.get_fontfamily() == ["sans-serif", "Lesions"]


def test_the_letters_of_an_svg_are_the_browsers(installed: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        text = line_plot({"a": [(0, 1), (1, 2)]}, x=LESION, y="AUROC")
    assert LESION in text
