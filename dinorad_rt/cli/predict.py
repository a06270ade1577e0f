"""`dinorad-rt predict`: a bundle answers for new images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar, warn
from dinorad_rt.cli.groups import EngineOptions, grouped
from dinorad_rt.errors import DataError, EmptyDataError
from dinorad_rt.words import count_of

MASK_FORMATS = ("nifti", "dicom-seg")


@grouped
def predict(
    *,
    bundle: Annotated[Path, typer.Argument(help="Folder of `dinorad-rt bundle`.")],
    path: Annotated[Path, typer.Argument(help="An image, a series, a folder of any, a DICOMDIR.")],
    out: Annotated[Path, typer.Option(help="Folder of the results; the same one goes on.")],
    masks: Annotated[
        str,
        typer.Option(
            metavar="FORMATS", help="Segmentation: nifti, dicom-seg, or both with a comma between."
        ),
    ] = "nifti",
    overlays: Annotated[
        bool, typer.Option("--overlays", help="Segmentation: draw each mask on its slices, as PNG.")
    ] = False,
    saliency: Annotated[
        Literal["occlusion", "gradients", "attention"] | None,
        typer.Option(
            metavar="METHOD",
            help="Classification: draw what each answer rests on, as PNG. occlusion: by hiding "
            "places from the engine. gradients: integrated ones. attention: its rollout "
            "(transformers).",
        ),
    ] = None,
    keep_identifiers: options.KeepIdentifiers = False,
    engine: EngineOptions,
    workers: options.Workers = None,
    as_json: options.AsJson = False,
) -> None:
    """Answer with a bundle on new images: a row per series, volume or image.

    Writes predictions.csv and .parquet. What cannot be read is a row with its reason, and exit
    code 2 where that is so for all of them. An interrupted run goes on where it was. Not for
    clinical use.
    """
    from dinorad_rt.prediction.bundle import Bundle
    from dinorad_rt.prediction.predict import PredictOptions
    from dinorad_rt.prediction.predict import predict as run

    chosen = parse_masks(masks)
    model = Bundle.open(bundle)
    if model.weights_kind == "random":
        warn("weights: random. These answers test machinery; they mean nothing.")
    choices = PredictOptions(
        backend=engine.backend,
        profile=engine.profile,
        masks=chosen,  # type: ignore[arg-type]
        overlays=overlays,
        saliency=saliency,
        keep_identifiers=keep_identifiers,
    )
    with progress_bar("predicting", unit="items") as advance:
        done = run(model, path, out, choices, workers=workers, say=note, progress=advance)
    for line in done.strange.splitlines():
        warn(line)
    if done.failed and done.answered:
        all_items = count_of(done.answered + done.failed, "item")
        warn(f"{done.failed} of {all_items} got no answer: see the column reason")
    facts = {
        "results": str(done.folder / "predictions.csv"),
        "answered": str(done.answered),
        "failed": str(done.failed),
        "from an earlier run": str(done.earlier),
        "model": model.name,
        "engine": f"{done.engine.backend} {done.engine.precision}, {done.engine.key[:16]}",
    }
    if done.strange:
        facts["of another kind"] = done.strange
    _show(facts, as_json=as_json)
    if not (keep_identifiers or as_json):
        note("items are keyed hashes; --keep-identifiers (into a new --out) names their files")
    if not done.answered:
        raise EmptyDataError(
            f"{count_of(done.failed, 'item')}, and not one answer. The commonest reason: "
            f"{done.reason.rstrip('.')}.",
            "predictions.csv has the reason of each. Look at the files with dinorad-rt inspect "
            "PATH, mend them, and run again into a new --out.",
        )


def _show(facts: Mapping[str, str], *, as_json: bool) -> None:
    if as_json:
        print_json(dict(facts))
        return
    from dinorad_rt.reports.table import key_value_table, print_table

    print_table(key_value_table("Predictions", facts))
    note("not for clinical use")


def parse_masks(text: str) -> tuple[str, ...]:
    """`nifti,dicom-seg` → its parts."""
    words = tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    unknown = [word for word in words if word not in MASK_FORMATS]
    if unknown or not words:
        raise DataError(
            f"--masks {text!r}: {', '.join(unknown) or 'nothing'} is no mask format.",
            f"Use {' or '.join(MASK_FORMATS)}, or both separated by a comma.",
        )
    return words
