"""What `train --protocol segmentation` does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.cli.console import note, print_json, print_next, progress_bar
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.cli.groups import check_request
from dinorad_rt.cli.trained import print_run
from dinorad_rt.cli.unused import refuse_unused_of_masks
from dinorad_rt.errors import ProtocolError
from dinorad_rt.training.segmentation.names import NETWORK_NAMES

if TYPE_CHECKING:
    from dinorad_rt.cli.groups import MaskSource
    from dinorad_rt.cli.train_options import MaskOptions
    from dinorad_rt.pipeline import EngineRequest


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
    source: MaskSource,
    classes: tuple[str, ...] | None,
    recipe: tuple[str, Mapping[str, Any], MaskOptions],
    *,
    out: Path | None,
    workers: int | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a segmentation model from the command line.

    Args:
        request: model, weights, size and seed.
        source: images and masks.
        classes: of the masks, background first; None for those found.
        recipe: modern or study, and what changes it: fields of the settings (None keeps the
            preset's), and the options of masks as they were typed.
        out: run folder; None for one below runs/.
        workers: decoders.
        tensorboard: also write event files.
        as_json: print JSON.
    """
    from dinorad_rt.training.segmentation.presets import segmentation_preset

    preset, choices, masks = recipe
    typed = vars(masks) | {
        "learning_rates": parse_rates(masks.learning_rates),
        "patch": parse_triple(masks.patch, "--patch", int),
        "spacing": parse_triple(masks.spacing, "--spacing", float),
    }
    request = replace(request, backend=typed.pop("backend") or "auto")
    chosen = segmentation_preset(preset).changed(
        model=request.model,
        weights=request.weights,
        image_size=request.image_size,
        seed=request.seed,
        **choices,
        **typed,
    )
    given = vars(masks) | {"image_size": request.image_size}
    refuse_unused_of_masks(given, chosen.settings)
    if request.model not in NETWORK_NAMES:
        check_request(request)
    dataset = source.open(request.seed, task="segmentation", class_names=classes)
    describe_dataset(dataset)
    folder = out or (
        Path("runs") / f"segmentation-{chosen.settings.model.replace('/', '_')}-{dataset.name}"
    )
    from dinorad_rt.training.segmentation.run import train_segmentation

    with progress_bar("segmentation", "steps") as advance:
        trained = train_segmentation(
            chosen.settings,
            chosen.loop,
            dataset,
            folder,
            request=request,
            workers=workers,
            say=note,
            progress=advance,
            tensorboard=tensorboard,
        )
    if trained.results is None:
        return
    if as_json:
        history = trained.history.as_dict()
        print_json({"run": folder.name, "history": history, "results": trained.results.as_dict()})
        return
    print_run(trained.results, folder)
    print_next(
        (f"eval --checkpoint {folder} --data DIR", "the same test images on an engine"),
        (f"bundle {folder} --out BUNDLE", "a folder that predict takes: NIfTI, DICOM SEG"),
        (f"report {folder}", "tables and curves to look at"),
    )
