"""`dinorad-rt prepare`: a dataset is indexed and checked, and stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dinorad_rt.cli import complete, options
from dinorad_rt.cli.console import note, print_json, seldom, warn
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.cli.groups import MaskReading, MaskSource, grouped
from dinorad_rt.errors import UnknownNameError
from dinorad_rt.words import count_of, verb_of

if TYPE_CHECKING:
    from dinorad_rt.datasets.prepare import Prepared


@grouped
def prepare(
    dataset: Annotated[
        str | None,
        typer.Argument(
            help="Name: one of `dinorad-rt list datasets`.", autocompletion=complete.datasets
        ),
    ] = None,
    root: Annotated[
        Path | None,
        typer.Option(
            help="Where its files lie, or shall lie (phantom).", rich_help_panel=options.DATA
        ),
    ] = None,
    data: options.Data = None,
    *,
    reading: MaskReading,
    class_names: options.ClassNames = None,
    task: options.DataTask = "auto",
    out: Annotated[
        Path | None, typer.Option(help="Write splits.csv there, which --splits takes.")
    ] = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Index a registered dataset or your own: counts, classes, splits, checksums, what is missing.

    No file of yours is ever moved, changed or deleted; what was read is remembered in the cache.
    `phantom` is generated: DICOM studies of invented patients, the default of other verbs.
    """
    from dinorad_rt.datasets.prepare import prepare_dataset, write_splits
    from dinorad_rt.datasets.registry import counted, entry_named

    if (dataset is None) == (data is None):
        raise UnknownNameError(
            "prepare needs a registered dataset or --data, and one of the two only.",
            "Example: dinorad-rt prepare montgomery --root DIR",
        )
    source = MaskSource(data=data, dataset=dataset, root=root, **vars(reading))
    opened = source.open(seed, class_names=options.names(class_names) or None, task=task)
    describe_dataset(opened)
    entry = None if dataset is None else entry_named(dataset)
    prepared = prepare_dataset(opened, entry, root, counted(seldom(note)))
    if out is not None:
        write_splits(opened, out)
        note(f"splits of {count_of(len(opened.samples), 'sample')} written to splits.csv in --out")
    _show(prepared, as_json)


def _show(prepared: Prepared, as_json: bool) -> None:
    if prepared.burned_in:
        warn(
            f"{count_of(prepared.burned_in, 'DICOM image')} "
            f"{verb_of(prepared.burned_in, 'says', 'say')} that text is burned into "
            f"{verb_of(prepared.burned_in, 'its', 'their')} pixels: it may name the patient, and "
            "no pseudonym hides it"
        )
    for name, state in prepared.checksums.items():
        (note if state == "official" else warn)(f"MD5 of {name}: {state}")
    if as_json:
        print_json(prepared.as_dict())
        return
    from dinorad_rt.datasets.prepare import class_rows
    from dinorad_rt.reports.table import print_table, rows_table

    print_table(rows_table(f"{prepared.dataset.name}: samples per class", class_rows(prepared)))
    note(
        f"fingerprint {prepared.dataset.fingerprint[:16]}, "
        f"splits {prepared.dataset.split_hash[:16]}"
    )
