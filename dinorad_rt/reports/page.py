"""A self-contained HTML page: no network, sortable and filterable tables, print and phone ready.

The page is built from blocks: headings, paragraphs, tables, figures, parts that unfold. All text
is escaped here, so callers pass plain values; for links and intervals `cells` has types.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from typing import Any

from dinorad_rt.reports.cells import (
    break_words,
    cell_words,
    cells_of,
    has_many_intervals,
    is_number_column,
)
from dinorad_rt.reports.look import SCRIPT, STYLE
from dinorad_rt.reports.svg import inline_svg

NAVIGATION_FROM = 3
"""Headings from which on a page gets a list of its sections."""


@dataclass(frozen=True)
class Picture:
    """One PNG image of several that are looked at together.

    Attributes:
        title: above it.
        png: content of the file.
        alternative: for those who do not see it.
    """

    title: str
    png: bytes
    alternative: str


@dataclass(frozen=True)
class Key:
    """What a colour of pictures stands for.

    Attributes:
        colour: #RRGGBB.
        line: solid, dashed or dotted; or filled, of an area.
        text: what it stands for.
    """

    colour: str
    line: str
    text: str


@dataclass
class Page:
    """Collects blocks and renders them.

    Attributes:
        title: of the page.
        language: of its text.
    """

    title: str
    language: str = "en"
    _blocks: list[str] = field(default_factory=list)
    _sections: list[tuple[str, str]] = field(default_factory=list)
    _tables: int = 0
    _figures: int = 0

    def heading(self, text: str, *, level: int = 2) -> None:
        """A section heading; those of level 2 make up the list of sections."""
        if level == 2:
            name = f"section-{len(self._sections) + 1}"
            self._sections.append((name, text))
            self._blocks.append(f'<h2 id="{name}">{break_words(text)}</h2>')
        else:
            self._blocks.append(f"<h{level}>{escape(text)}</h{level}>")

    def paragraph(self, text: str, *, soft: bool = False) -> None:
        """Running text."""
        attribute = ' class="soft"' if soft else ""
        self._blocks.append(f"<p{attribute}>{escape(text)}</p>")

    def bullets(self, lines: Sequence[str]) -> None:
        """A list of sentences."""
        if lines:
            items = "".join(f"<li>{escape(line)}</li>" for line in lines)
            self._blocks.append(f"<ul>{items}</ul>")

    def warning(self, text: str) -> None:
        """A sentence that nobody may miss."""
        self._blocks.append(f'<p class="warning" role="note">{escape(text)}</p>')

    def table(
        self, rows: Sequence[Mapping[str, Any]], caption: str, *, filterable: bool = True
    ) -> None:
        """A sortable table; numbers are right-aligned and sort by their full value.

        Args:
            rows: column → value; the first row's keys are the columns, the first column names
                the rows.
            caption: what the table shows.
            filterable: add a box that filters rows by words.
        """
        if not rows:
            return
        self._tables += 1
        name = f"table-{self._tables}"
        numbers = {key for key in rows[0] if is_number_column(row.get(key) for row in rows)}
        heads = "".join(
            f'<th scope="col"{_head_class(key in numbers)}><button type="button">'
            f"{cell_words(str(key))}</button></th>"
            for key in rows[0]
        )
        body = "".join(f"<tr>{cells_of(row, list(rows[0]), numbers)}</tr>" for row in rows)
        kind = "sortable stacked" if any(map(has_many_intervals, rows)) else "sortable"
        if filterable:
            self._blocks.append(_filter_box(name, len(rows), caption))
        self._blocks.append(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
            f'<table class="{kind}" id="{name}">'
            f"<caption><span>{break_words(caption)}</span></caption>"
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def figure(self, svg: str, caption: str, *, alternative: str = "") -> None:
        """A plot.

        Args:
            svg: an `<svg>` element of our own making; it is not escaped.
            caption: what it shows.
            alternative: for those who do not see it: what it shows, with its numbers; the
                caption if empty.
        """
        self._figures += 1
        drawing = inline_svg(svg, f"figure-{self._figures}", alternative or caption)
        self._blocks.append(f"<figure>{drawing}<figcaption>{escape(caption)}</figcaption></figure>")

    def pictures(self, pictures: Sequence[tuple[bytes, str]], caption: str) -> None:
        """PNG images in a row.

        Args:
            pictures: (content of a PNG file, what it shows).
            caption: of the row.
        """
        shown = "".join(
            f'<img alt="{escape(words)}" src="{_data_uri(content)}">' for content, words in pictures
        )
        self._blocks.append(
            f'<figure class="pictures"><div>{shown}</div>'
            f"<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def panels(self, pictures: Sequence[Picture], caption: str) -> None:
        """Large pictures of one thing side by side, each under its title."""
        shown = "".join(
            f'<div><p>{escape(item.title)}</p><img alt="{escape(item.alternative)}" '
            f'src="{_data_uri(item.png)}"></div>'
            for item in pictures
        )
        self._blocks.append(
            f'<figure class="panels"><figcaption>{break_words(caption)}</figcaption>'
            f"<div>{shown}</div></figure>"
        )

    def legend(self, keys: Sequence[Key]) -> None:
        """What the colours of the pictures below stand for."""
        items = "".join(
            f'<li><i class="{escape(key.line)}" style="--key:{escape(key.colour)}"></i>'
            f"{break_words(key.text)}</li>"
            for key in keys
        )
        self._blocks.append(f'<ul class="legend">{items}</ul>')

    @contextmanager
    def grid(self) -> Iterator[None]:
        """Figures side by side where there is room."""
        self._blocks.append('<div class="grid">')
        yield
        self._blocks.append("</div>")

    @contextmanager
    def unfolding(self, summary: str, *, anchor: str = "") -> Iterator[None]:
        """A part that is closed at first; a link to its anchor, or printing, opens it."""
        place = f' id="{escape(anchor)}"' if anchor else ""
        self._blocks.append(f"<details{place}><summary>{break_words(summary)}</summary>")
        yield
        self._blocks.append("</details>")

    def details(self, summary: str, text: str) -> None:
        """Text for machines that unfolds, such as raw JSON; it is not printed."""
        self._blocks.append(
            f'<details class="raw"><summary>{break_words(summary)}</summary>'
            f'<pre tabindex="0">{escape(text)}</pre></details>'
        )

    def render(self) -> str:
        """The whole page."""
        return (
            f'<!doctype html>\n<html lang="{self.language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head><body>"
            '<a class="skip" href="#content">Skip to the content</a>'
            f"<header><h1>{escape(self.title)}</h1>{self._navigation()}</header>"
            f'<main id="content">{"".join(self._blocks)}</main>'
            f"<script>{SCRIPT}</script></body></html>\n"
        )

    def _navigation(self) -> str:
        if len(self._sections) < NAVIGATION_FROM:
            return ""
        items = "".join(
            f'<li><a href="#{name}">{escape(text)}</a></li>' for name, text in self._sections
        )
        return f'<nav aria-label="Sections"><ul>{items}</ul></nav>'


def _head_class(numbers: bool) -> str:
    """The head of a column of numbers stands above them, at the right."""
    return ' class="number"' if numbers else ""


def _data_uri(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _filter_box(name: str, rows: int, caption: str) -> str:
    return (
        f'<div class="filter"><label>Filter rows <input type="search" data-table="{name}" '
        f'aria-description="{escape(caption)}"></label> '
        f'<output class="soft" data-table="{name}">{rows} of {rows} rows</output></div>'
    )
