"""`report`: runs become one HTML page, Markdown, CSV, and plots for papers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dinorad_rt import __version__
from dinorad_rt.errors import unknown_name
from dinorad_rt.files import atomic_path, claim_output_dir
from dinorad_rt.progress import Say, silent
from dinorad_rt.reports import sections
from dinorad_rt.reports.drawings import drawings_of, paretos
from dinorad_rt.reports.figures import Drawing
from dinorad_rt.reports.files import to_csv, to_markdown
from dinorad_rt.reports.mask_numbers import mask_drawings
from dinorad_rt.reports.material import Material
from dinorad_rt.reports.page import Page
from dinorad_rt.reports.plots import FORMATS, save_figure
from dinorad_rt.reports.run_sections import add_runs
from dinorad_rt.reports.study_numbers import Published, published_for
from dinorad_rt.reports.tradeoff import joined_with_benches
from dinorad_rt.words import count_of, valid_text

HTML, MARKDOWN, CSV = "report.html", "report.md", "report.csv"
PLOTS = "plots"
NAME_LETTERS = 120


@dataclass(frozen=True)
class Extras:
    """What a report may have beyond its runs.

    Attributes:
        title: of the page.
        plots: formats of the plots that are also written as files: svg, pdf, png.
        failures: what could not be run: cell or dataset → why.
        gallery: adds the part with pictures, if any.
    """

    title: str = "dinorad-rt report"
    plots: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)
    gallery: Callable[[Page], None] | None = None


def write_report(
    material: Material, out: Path, extras: Extras | None = None, *, say: Say = silent
) -> tuple[Path, ...]:
    """Write report.html, report.md, report.csv, and plots if asked.

    Args:
        material: runs and benchmarks, from `read_material`.
        out: folder; its older report is replaced.
        extras: title, formats of plots, failures, pictures.
        say: told each step.

    Returns:
        The files, the page first.

    Raises:
        UnknownNameError: a format of plots that does not exist.
        OutputExistsError: `out` holds something else.
    """
    extras = extras or Extras()
    for kind in extras.plots:
        if kind not in FORMATS:
            raise unknown_name("format of plots", kind, FORMATS, "dinorad-rt report --help")
    claim_output_dir(out, HTML, MARKDOWN, CSV)
    published = tuple(
        item
        for name in dict.fromkeys(run.results.dataset for run in material.runs)
        for item in published_for(name)
    )
    page, drawings = _page(material, published, extras, say)
    texts = {
        MARKDOWN: to_markdown(extras.title, material, published, extras.failures),
        CSV: to_csv(material),
        HTML: page.render(),
    }
    written = [_write(out / name, text) for name, text in texts.items()]
    for name, drawing in _named(drawings).items():
        for kind in extras.plots:
            written.append(out / PLOTS / f"{name}.{kind}")
            save_figure(drawing.figure, written[-1])
    old = _older_plots(out / PLOTS, written)
    if old:
        say(f"{PLOTS} also holds {count_of(old, 'plot')} of earlier reports, which were left there")
    return (out / HTML, *(path for path in written if path.name != HTML))


def _page(
    material: Material, published: Sequence[Published], extras: Extras, say: Say
) -> tuple[Page, list[Drawing]]:
    page = Page(extras.title)
    made = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    page.paragraph(f"Made by dinorad-rt {__version__}, {made}.", soft=True)
    sections.add_head(page, material)
    sections.add_failures(page, extras.failures)
    if sections.overview_first(material):
        sections.add_study_table(page, material, published)
    shown: list[Drawing] = []
    for test_set in material.test_sets:
        say(f"drawing {test_set.name}: {count_of(len(test_set.runs), 'run')}")
        drawings = [*mask_drawings(test_set), *drawings_of(test_set)]
        shown += drawings
        sections.add_test_set(page, test_set, drawings)
    if not sections.overview_first(material):
        sections.add_study_table(page, material, published)
    shown += _add_pareto(page, material)
    sections.add_published(page, published)
    if extras.gallery is not None:
        extras.gallery(page)
    add_runs(page, material)
    return page, shown


def _older_plots(folder: Path, written: Sequence[Path]) -> int:
    """Plots in the folder that are not of this report: its runs may be others'."""
    if not folder.is_dir():
        return 0
    kinds = tuple(f".{kind}" for kind in FORMATS)
    return sum(path.suffix in kinds and path not in written for path in folder.iterdir())


def _named(drawings: Sequence[Drawing]) -> dict[str, Drawing]:
    """Plots by the names of their files: short enough for one, and each its own."""
    named: dict[str, Drawing] = {}
    for drawing in drawings:
        name, number = drawing.name[:NAME_LETTERS].strip("-") or "plot", 1
        found = name
        while found in named:  # names of data sets in other scripts leave few letters
            number += 1
            found = f"{name}-{number}"
        named[found] = drawing
    return named


def _add_pareto(page: Page, material: Material) -> list[Drawing]:
    parts = []
    for test_set in material.test_sets:
        joined = joined_with_benches(test_set, material)
        parts.append((test_set, joined, list(paretos(test_set, joined))))
    sections.add_pareto(page, parts, len(material.benches))
    return [drawing for _, _, drawings in parts for drawing in drawings]


def _write(target: Path, text: str) -> Path:
    with atomic_path(target) as part:
        part.write_text(valid_text(text), encoding="utf-8")
    return target
