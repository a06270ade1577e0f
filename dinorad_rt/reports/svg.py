"""Plots made fit to stand inside a page: unique ids, colours of the page, a text alternative."""

from __future__ import annotations

import re
from html import escape

INK = "#1d2328"
"""Colour of axes and text in our plots; inside a page it becomes the colour of its text."""

_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_NAMESPACES = re.compile(r'\sxmlns(:\w+)?="[^"]*"')
_REFERENCES = re.compile(r'(\bid="|url\(#|xlink:href="#|\bhref="#)')


def inline_svg(svg: str, name: str, alternative: str) -> str:
    """An `<svg>` element for an HTML page.

    Args:
        svg: text of an SVG file of our own making.
        name: prefix of every id in it, so that ids of two plots do not meet.
        alternative: read out instead of the plot.
    """
    text = _METADATA.sub("", svg[svg.index("<svg") :])
    text = _NAMESPACES.sub("", text).replace("xlink:href", "href")
    text = _REFERENCES.sub(rf"\g<1>{name}-", text)
    text = text.replace(INK, "currentColor")
    label = f'<svg role="img" aria-label="{escape(alternative)}"'
    return re.sub(r"<svg", lambda _: label, text, count=1).strip()
