"""What `train --protocol segmentation` does."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dinorad_rt.cli.console import note, print_json, progress_bar, seldom, warn
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.errors import ProtocolError

if TYPE_CHECKING:
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.segmentation.run import TrainedSegmenter

_FILES = (
    ("Run", "train.json"),
    ("Weights", "best.safetensors"),
    ("Results", "results.json"),
    ("Volumes", "cases.parquet"),
    ("TensorBoard", "tensorboard"),
)
_NEXT = """
Try next
  dinorad-rt export --checkpoint {run}    encoder and decoder as one checked graph
  dinorad-rt bundle {run} --out DIR       a folder that predict takes: NIfTI, DICOM SEG"""


def refuse_foreign(protocol: str, given: Mapping[str, Any], meant_for: str) -> None:
    """Refuse options that the protocol would ignore.

    Args:
        protocol: as the user named it.
        given: option → value, None where it was not given.
        meant_for: which protocols take them.

    Raises:
        ProtocolError: naming them.
    """
    names = ["--" + name.replace("_", "-") for name, value in given.items() if value is not None]
    if names:
        raise ProtocolError(
            f"{', '.join(names)} belong to {meant_for}; --protocol {protocol} has no use for them.",
            "Leave them out, or choose another protocol.",
        )


def parse_triple(text: str | None, option: str, kind: type[int] | type[float]) -> Any:
    """`64,64,64` → three numbers; None stays None.

    Raises:
        ProtocolError: anything else.
    """
    if text is None:
        return None
    try:
        values = tuple(kind(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise ProtocolError(
            f"{option} {text!r} is not three numbers.",
            f"Give slices, rows, columns: {option} {'64,64,64' if kind is int else '1,1,1'}",
        )
    return values


def parse_rates(text: str | None) -> tuple[float, ...] | None:
    """`1e-4,1e-3` → learning rates; None stays None.

    Raises:
        ProtocolError: anything else.
    """
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise ProtocolError(
            f"--learning-rates {text!r} is no list of numbers.",
            "Give them with commas: --learning-rates 1e-4,1e-3,1e-2",
        ) from error


def train_masks(
    request: EngineRequest,
    preset: str,
    source: Mapping[str, Any],
    choices: Mapping[str, Any],
    *,
    out: Path | None,
    workers: int | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a segmentation model from the command line.

    Args:
        request: model, weights, size, backend and seed.
        preset: modern or study.
        source: arguments of `dataset_for`.
        choices: fields of `SegmentationSettings` and `TrainSettings`; None keeps the preset's.
        out: run folder; None for one below runs/.
        workers: decoders.
        tensorboard: also write event files.
        as_json: print JSON.
    """
    from dinorad_rt.pipeline import dataset_for
    from dinorad_rt.training.segmentation.presets import segmentation_preset

    recipe = segmentation_preset(preset).changed(
        model=request.model,
        weights=request.weights,
        image_size=request.image_size,
        seed=request.seed,
        **choices,
    )
    dataset = dataset_for(**source, seed=request.seed, say=seldom(note), task="segmentation")
    describe_dataset(dataset)
    settings = recipe.settings
    name = f"segmentation-{settings.model.replace('/', '_')}-{dataset.name}"
    folder = out or Path("runs") / name
    from dinorad_rt.training.segmentation.run import train_segmentation

    with progress_bar("segmentation", "steps") as advance:
        trained = train_segmentation(
            settings,
            recipe.loop,
            dataset,
            folder,
            request=request,
            workers=workers,
            say=note,
            progress=advance,
            tensorboard=tensorboard,
        )
    _show(trained, folder, as_json)


def _show(trained: TrainedSegmenter, folder: Path, as_json: bool) -> None:
    results = trained.results
    if results is None:
        return
    if as_json:
        history = trained.history.as_dict()
        print_json({"run": folder.name, "history": history, "results": results.as_dict()})
        return
    from dinorad_rt.reports.table import print_table, results_table

    print_table(results_table(results))
    if results.is_random:
        warn("weights: random. These numbers test the machinery; they say nothing of a model.")
    for title, name in _FILES:
        if (folder / name).exists():
            typer.echo(f"{title:<12} {folder / name}")
    typer.echo(_NEXT.format(run=folder))
