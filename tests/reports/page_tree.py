"""Pages of reports, and a page as a real parser reads it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

from PIL import Image

from dinorad_rt.reports.gallery import GalleryRequest, gallery_for
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.report import write_report

VOID = {"meta", "link", "br", "img", "input", "wbr", "hr"}
OPTIONAL_END = {"path", "use", "rect", "circle", "stop"}


class Tree(HTMLParser):
    """Collects tags with their attributes and text, and checks that they nest."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.path: list[str] = []
        self.texts: dict[str, list[str]] = {}
        self.tables: list[list[str]] = []
        self.feed(text)
        assert self.path == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.tables.append([])
        if self.tables and "table" in [*self.path, tag]:
            self.tables[-1].append(tag)
        if tag not in VOID:
            self.path.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.path.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.path:
            self.texts.setdefault(self.path[-1], []).append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def pictures(self) -> list[Image.Image]:
        """Every `img`, decoded; each must lie in the page itself."""
        found = []
        for attributes in self.named("img"):
            kind, _, content = (attributes["src"] or "").partition(",")
            assert kind == "data:image/png;base64"
            found.append(Image.open(io.BytesIO(base64.b64decode(content, validate=True))))
        return found


def assert_self_contained(text: str) -> None:
    """Nothing in the page asks the network for anything."""
    for tag, attributes in Tree(text).tags:
        for key in ("src", "href", "xlink:href", "data", "action", "srcset"):
            value = attributes.get(key)
            assert value is None or value.startswith(("#", "data:")), (tag, value)
    assert not re.findall(r"(?:https?:)?//[\w.-]+\.\w+", re.sub(r'src="data:[^"]*"', "", text))
    assert "@import" not in text and "url(http" not in text


def report_of(material: Material, out: Path) -> str:
    """The page that a report of these runs writes."""
    return write_report(material, out)[0].read_text(encoding="utf-8")


def pictures_of(material: Material, request: GalleryRequest) -> str:
    """A page of the pictures alone."""
    page = Page("Pictures")
    gallery_for(material, request)(page)
    return page.render()
