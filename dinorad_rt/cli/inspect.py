"""`dinorad-rt inspect`: what a folder or file holds, and what the network would see."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json

_SPARE = ("photometric", "syntax", "format", "values")
"""Columns that a narrow terminal goes without, the least important first."""


def inspect(
    path: Annotated[Path, typer.Argument(help="An image, a DICOM or NIfTI file, or a folder.")],
    sheet: Annotated[
        Path | None, typer.Option(help="Write a contact sheet of the network's view, as PNG.")
    ] = None,
    preprocessing: options.Preset = "dinorad",
    as_json: options.AsJson = False,
) -> None:
    """Tell series, sizes, spacing, windows and problems of images, without identifiers."""
    from dinorad_rt.studies.inspect import MAX_SERIES, contact_sheet, inspect_path

    inspection = inspect_path(path)
    if sheet is not None:
        contact_sheet(inspection, sheet, preprocessing=preprocessing)
        note(f"contact sheet written to {sheet}; its pixels may show burned-in text")
        if len(inspection.series) > MAX_SERIES:
            note(f"it shows {MAX_SERIES} of {len(inspection.series)} series, evenly spaced")
    if as_json:
        print_json(inspection.as_dict())
        return
    from dinorad_rt.reports.table import print_table, rows_table

    print_table(rows_table("Series", inspection.rows(), _SPARE))
    for problem in inspection.problems:
        note(problem)
