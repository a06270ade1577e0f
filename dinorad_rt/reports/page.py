"""A self-contained HTML page: no network, sortable and filterable tables, print and phone ready.

The page is built from blocks: headings, paragraphs, tables, figures. All text is escaped here, so
callers pass plain values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

STYLE = """
:root { --ink: #1d2327; --soft: #5b6670; --line: #d5dbe0; --paper: #fff; --tint: #f3f6f8;
  --accent: #0b5cad; --warn: #8a3b00; --warn-tint: #fff3e6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6eaee; --soft: #a3adb6; --line: #3a434b;
  --paper: #14181b; --tint: #1d2327; --accent: #7ab8f5; --warn: #ffc58f; --warn-tint: #3a2712; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1.5rem 1rem 4rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .25rem; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
p { max-width: 48rem; } .soft { color: var(--soft); }
.warning { border-left: .3rem solid var(--warn); background: var(--warn-tint); color: var(--warn);
  padding: .6rem .9rem; font-weight: 600; max-width: none; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .4rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
caption { text-align: left; padding: .5rem .6rem; color: var(--soft); }
th, td { padding: .35rem .6rem; text-align: left; border-top: 1px solid var(--line);
  white-space: nowrap; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
thead th { background: var(--tint); border-top: 0; position: sticky; top: 0; }
thead button { all: unset; cursor: pointer; font-weight: 600; }
thead button:focus-visible, input:focus-visible, summary:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
th[aria-sort=ascending] button::after { content: " ↑"; }
th[aria-sort=descending] button::after { content: " ↓"; }
.filter { margin: .5rem 0; } .filter input { font: inherit; padding: .3rem .5rem; width: 18rem;
  max-width: 100%; color: inherit; background: var(--paper); border: 1px solid var(--soft);
  border-radius: .3rem; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; background: #fff;
  border-radius: .4rem; } figcaption { color: var(--soft); font-size: .9rem; }
details { margin: .5rem 0; } pre { overflow-x: auto; background: var(--tint); padding: .8rem;
  border-radius: .4rem; font-size: .8rem; }
@media print { .filter { display: none; } .scroll { overflow: visible; border: 0; }
  thead th { position: static; } body { max-width: none; } }
"""

SCRIPT = """
for (const table of document.querySelectorAll('table.sortable')) {
  const body = table.tBodies[0];
  table.tHead.querySelectorAll('button').forEach((button, column) => {
    button.addEventListener('click', () => {
      const head = button.parentElement;
      const up = head.getAttribute('aria-sort') !== 'ascending';
      table.tHead.querySelectorAll('th').forEach(th => th.removeAttribute('aria-sort'));
      head.setAttribute('aria-sort', up ? 'ascending' : 'descending');
      const key = row => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const x = key(a), y = key(b), m = Number(x), n = Number(y);
        const both = x !== '' && y !== '' && !Number.isNaN(m) && !Number.isNaN(n);
        return (both ? m - n : x.localeCompare(y)) * (up ? 1 : -1);
      };
      [...body.rows].sort(order).forEach(row => body.append(row));
    });
  });
  const box = document.querySelector(`input[data-table="${table.id}"]`);
  const count = document.querySelector(`output[data-table="${table.id}"]`);
  box?.addEventListener('input', () => {
    const words = box.value.toLowerCase().split(/\\s+/).filter(Boolean);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every(word => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${body.rows.length} rows`;
  });
}
"""


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
    _tables: int = 0

    def heading(self, text: str) -> None:
        """A section heading."""
        self._blocks.append(f"<h2>{escape(text)}</h2>")

    def paragraph(self, text: str, *, soft: bool = False) -> None:
        """Running text."""
        attribute = ' class="soft"' if soft else ""
        self._blocks.append(f"<p{attribute}>{escape(text)}</p>")

    def warning(self, text: str) -> None:
        """A sentence that nobody may miss."""
        self._blocks.append(f'<p class="warning" role="note">{escape(text)}</p>')

    def table(
        self, rows: Sequence[Mapping[str, Any]], caption: str, *, filterable: bool = True
    ) -> None:
        """A sortable table; numbers are right-aligned and sort by their full value.

        Args:
            rows: column → value; the first row's keys are the columns.
            caption: what the table shows.
            filterable: add a box that filters rows by words.
        """
        if not rows:
            return
        self._tables += 1
        name = f"table-{self._tables}"
        heads = "".join(
            f'<th scope="col"><button type="button">{escape(str(key))}</button></th>'
            for key in rows[0]
        )
        body = "".join(
            "<tr>" + "".join(_cell(row.get(key)) for key in rows[0]) + "</tr>" for row in rows
        )
        if filterable:
            self._blocks.append(_filter_box(name, len(rows)))
        self._blocks.append(
            f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
            f'<table class="sortable" id="{name}"><caption>{escape(caption)}</caption>'
            f"<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table></div>"
        )

    def figure(self, svg: str, caption: str) -> None:
        """A plot.

        Args:
            svg: an `<svg>` element of our own making; it is not escaped.
            caption: what it shows; also its text alternative.
        """
        svg = svg[svg.index("<svg") :]
        labelled = svg.replace("<svg", f'<svg role="img" aria-label="{escape(caption)}"', 1)
        self._blocks.append(
            f"<figure>{labelled}<figcaption>{escape(caption)}</figcaption></figure>"
        )

    def details(self, summary: str, text: str) -> None:
        """Text that unfolds: provenance, raw JSON."""
        self._blocks.append(
            f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
        )

    def render(self) -> str:
        """The whole page."""
        return (
            f'<!doctype html>\n<html lang="{self.language}"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(self.title)}</title><style>{STYLE}</style></head><body>"
            f"<main><h1>{escape(self.title)}</h1>{''.join(self._blocks)}</main>"
            f"<script>{SCRIPT}</script></body></html>\n"
        )


def _filter_box(name: str, rows: int) -> str:
    return (
        f'<div class="filter"><label>Filter rows <input type="search" data-table="{name}"></label> '
        f'<output class="soft" data-table="{name}">{rows} of {rows} rows</output></div>'
    )


def _cell(value: Any) -> str:
    if value is None:
        return "<td>–</td>"
    if isinstance(value, bool):
        return f"<td>{'yes' if value else 'no'}</td>"
    if isinstance(value, (int, float)):
        return f'<td class="number" data-value="{value!r}">{escape(format_number(value))}</td>'
    return f"<td>{escape(str(value))}</td>"


def format_number(value: float) -> str:
    """Three significant digits, without exponents for everyday sizes."""
    if isinstance(value, int):
        return str(value)
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        digits = 3 if abs(value) < 10 else 1 if abs(value) < 1000 else 0
        return f"{value:.{digits}f}"
    return f"{value:.3g}"
