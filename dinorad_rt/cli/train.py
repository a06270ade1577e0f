"""`dinorad-rt train`: a backbone is tuned on labelled images; the run resumes and exports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, print_next, progress_bar
from dinorad_rt.cli.embed import describe_dataset
from dinorad_rt.cli.groups import MaskSource, ModelOptions, check_request, engine_request, grouped
from dinorad_rt.cli.train_options import ImageOptions, LoopOptions, MaskOptions, MethodOptions
from dinorad_rt.cli.trained import print_run
from dinorad_rt.cli.unused import refuse_foreign, refuse_unused_of_classes

if TYPE_CHECKING:
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.methods import Protocol

OF_CLASSES = (
    *(item.name for item in fields(MethodOptions)),
    *("slices", "head_lr_scale", "label_smoothing", "class_weights"),
)
"""Options that segmentation has no use for."""


@grouped
def train(
    *,
    protocol: Annotated[
        Literal["finetune", "lora", "bitfit", "linear", "segmentation"],
        typer.Option(
            metavar="NAME",
            help="What is trained beside the head. finetune: the whole backbone. lora: adapters. "
            "bitfit: biases. linear: nothing. segmentation: a decoder on patch tokens, or a "
            "network from scratch (--model unet, transunet, unet3d, segresnet, swinunetr).",
        ),
    ] = "lora",
    preset: Annotated[
        Literal["modern", "study"],
        typer.Option(
            metavar="NAME",
            help="modern: AdamW, warm-up, averaged weights, balanced classes. study: the paper's "
            "SGD, rank 48, learning rate 1e-5.",
        ),
    ] = "modern",
    model: ModelOptions,
    source: MaskSource,
    class_names: options.ClassNames = None,
    image_size: options.ImageSize = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET",
            help="As for eval: dinorad, model or study. Default: the preset's.",
            rich_help_panel=options.DATA,
        ),
    ] = None,
    images: ImageOptions,
    method: MethodOptions,
    loop: LoopOptions,
    masks: MaskOptions,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write event files.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Decoding workers, and processes that make training batches. Default: one per "
            "core, and for the batches of a GPU as many as its cores allow.",
        ),
    ] = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Tune a backbone on labelled images or masks, and evaluate it once on the test split.

    The validation split chooses the epoch, the test split nothing. The same command goes on with
    a run that was interrupted. Options without a default change single choices of --preset.

    Several GPUs: accelerate launch -m dinorad_rt train ...
    """
    request = engine_request(model, image_size=image_size, seed=seed)
    choices = {"preprocessing": preprocessing, **vars(images), **vars(method), **vars(loop)}
    of_run: dict[str, Any] = {"out": out, "workers": workers, "tensorboard": tensorboard}
    if protocol == "segmentation":
        from dinorad_rt.cli.segment import train_masks

        foreign = {name: choices.pop(name) for name in OF_CLASSES}
        refuse_foreign(protocol, foreign, "the protocols of classification")
        classes = options.names(class_names) or None
        recipe = (preset, choices, masks)
        train_masks(request, source, classes, recipe, **of_run, as_json=as_json)
        return
    foreign = {"mask_column": source.mask_column, "class_names": class_names, **vars(masks)}
    refuse_foreign(protocol, foreign, "--protocol segmentation")
    refuse_unused_of_classes(protocol, choices, request.model)
    _train_classes(request, source, (protocol, preset, choices), **of_run, as_json=as_json)


def _train_classes(
    request: EngineRequest,
    source: MaskSource,
    recipe: tuple[Protocol, str, Mapping[str, Any]],
    *,
    out: Path | None,
    workers: int | None,
    tensorboard: bool,
    as_json: bool,
) -> None:
    """Train a classifier; `recipe` is a protocol, a preset and what changes it."""
    from dinorad_rt.training.presets import classify_preset

    protocol, preset, choices = recipe
    check_request(request)
    images = source.open(request.seed)
    describe_dataset(images)
    chosen = classify_preset(protocol, preset).changed(**choices, seed=request.seed)
    folder = out or Path("runs") / f"{protocol}-{request.model.replace('/', '_')}-{images.name}"
    from dinorad_rt.training.classify import train_classifier

    with progress_bar("training", "steps") as advance:
        trained = train_classifier(
            request,
            chosen,
            images,
            folder,
            say=note,
            progress=advance,
            workers=workers,
            tensorboard=tensorboard,
        )
    from dinorad_rt.training.parallel import is_main_process

    if not is_main_process():
        return
    if as_json:
        results = trained.results
        print_json(
            {
                "run": folder.name,
                "parameters": trained.parameters,
                "history": trained.history.as_dict(),
                "results": None if results is None else results.as_dict(),
            }
        )
        return
    print_run(trained.results, folder)
    print_next(
        (f"eval --checkpoint {folder} --data DIR", "the same test images on an engine"),
        (f"bundle {folder} --data DIR --out BUNDLE", "a folder that predict takes"),
        (f"report {folder}", "tables and curves to look at"),
    )
