"""`dinorad-rt prepare`: a registered dataset is made ready and checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, seldom
from dinorad_rt.cli.embed import describe_dataset


def prepare(
    dataset: Annotated[str, typer.Argument(help="Name: one of `dinorad-rt list datasets`.")],
    root: Annotated[
        Path | None, typer.Option(help="Where its files lie, or shall lie (phantom).")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Index a registered dataset: counts, classes, splits. No file of yours is ever changed.

    `phantom` is generated: true DICOM of invented patients, the default of every verb.
    """
    from dinorad_rt.datasets.registry import dataset_named

    opened = dataset_named(dataset, root=root, progress=seldom(note))
    describe_dataset(opened)
    if as_json:
        print_json(
            {
                "name": opened.name,
                "task": opened.task,
                "classes": list(opened.class_names),
                "images": len(opened.samples),
                "patients": len({sample.patient for sample in opened.samples}),
                "fingerprint": opened.fingerprint,
                "split_hash": opened.split_hash,
            }
        )
    else:
        note(f"fingerprint {opened.fingerprint[:16]}, splits {opened.split_hash[:16]}")
