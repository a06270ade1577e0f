"""What `train` prints of a run that ended."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from dinorad_rt.cli.console import warn

if TYPE_CHECKING:
    from dinorad_rt.reports.results import Results

_FILES = (
    ("Run", "train.json"),
    ("Weights", "best.safetensors"),
    ("Adapter", "adapter"),
    ("Results", "results.json"),
    ("Predictions", "predictions.parquet"),
    ("Volumes", "cases.parquet"),
    ("TensorBoard", "tensorboard"),
)


def print_run(results: Results | None, folder: Path) -> None:
    """The results on the test split, where there are any, and the files of the run folder."""
    if results is not None:
        from dinorad_rt.reports.table import print_table, results_table

        print_table(results_table(results))
        if results.is_random:
            warn("weights: random. These numbers test the machinery; they say nothing of a model.")
    for title, name in _FILES:
        if (folder / name).exists():
            typer.echo(f"{title:<12} {folder / name}")
