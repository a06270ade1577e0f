"""`dinorad-rt train`: a backbone is tuned on labelled images; the run resumes and exports."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dinorad_rt.cli import options
from dinorad_rt.cli.console import note, print_json, progress_bar, warn
from dinorad_rt.cli.embed import describe_dataset

if TYPE_CHECKING:
    from dinorad_rt.training.classify import Trained

_LOOP, _METHOD, _DATA = "Training loop", "What is trained", "Images"
_MASKS = "Segmentation"


@options.with_source
def train(
    protocol: Annotated[
        Literal["finetune", "lora", "bitfit", "linear", "segmentation"],
        typer.Option(
            help="What of the backbone is trained beside the head: all, adapters, biases, nothing. "
            "segmentation: a decoder on patch tokens, or a network from scratch (--model unet, "
            "transunet, unet3d, segresnet, swinunetr)."
        ),
    ] = "lora",
    preset: Annotated[
        Literal["modern", "study"],
        typer.Option(
            help="modern: AdamW, warm-up, averaged weights, balanced classes. study: the paper's "
            "SGD, rank 48, learning rate 1e-5. Other options change single choices of it."
        ),
    ] = "modern",
    model: options.Model = "vits14",
    weights: options.Weights = "hub",
    source: options.Source = options.NO_SOURCE,
    image_size: options.ImageSize = None,
    preprocessing: Annotated[
        str | None,
        typer.Option(help="As for eval: dinorad, model or study. Default: the preset's."),
    ] = None,
    augment: Annotated[
        Literal["none", "light", "strong", "study"] | None,
        typer.Option(help="Augmentation of training images.", rich_help_panel=_DATA),
    ] = None,
    flip: Annotated[
        bool | None,
        typer.Option(
            help="Swap left and right. Off unless asked for: sides matter in a chest X-ray.",
            rich_help_panel=_DATA,
        ),
    ] = None,
    slices: Annotated[
        int | None,
        typer.Option(min=1, help="Slices of a volume per training step.", rich_help_panel=_DATA),
    ] = None,
    adapter: Annotated[
        Literal["lora", "dora", "rslora", "loha", "lokr"] | None,
        typer.Option(help="Kind of adapter for --protocol lora.", rich_help_panel=_METHOD),
    ] = None,
    rank: Annotated[
        int | None, typer.Option(min=1, help="Of the adapters.", rich_help_panel=_METHOD)
    ] = None,
    alpha: Annotated[
        float | None, typer.Option(help="Scale of the adapters.", rich_help_panel=_METHOD)
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Of the adapters.", rich_help_panel=_METHOD),
    ] = None,
    layer_decay: Annotated[
        float | None,
        typer.Option(
            min=0.1, max=1.0, help="Learning rate per layer, finetune.", rich_help_panel=_METHOD
        ),
    ] = None,
    blocks: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            help="Last blocks whose class token the head sees.",
            rich_help_panel=_METHOD,
        ),
    ] = None,
    patch_mean: Annotated[
        bool | None,
        typer.Option(help="The head also sees the mean patch token.", rich_help_panel=_METHOD),
    ] = None,
    head_init: Annotated[
        Literal["probe", "random"] | None,
        typer.Option(help="Start of the head: logistic regression.", rich_help_panel=_METHOD),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, rich_help_panel=_LOOP)] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="End after these.", rich_help_panel=_LOOP)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Per process.", rich_help_panel=_LOOP)
    ] = None,
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Batches per step.", rich_help_panel=_LOOP)
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of the backbone (linear: head).", rich_help_panel=_LOOP),
    ] = None,
    head_lr_scale: Annotated[
        float | None,
        typer.Option(help="The head's rate as a multiple of it.", rich_help_panel=_LOOP),
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_LOOP)] = None,
    warmup: Annotated[
        float | None,
        typer.Option(help="Share of steps with rising rate.", rich_help_panel=_LOOP),
    ] = None,
    clip_norm: Annotated[
        float | None, typer.Option(help="Greatest gradient norm.", rich_help_panel=_LOOP)
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of averaged weights.", rich_help_panel=_LOOP)
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=0.5, rich_help_panel=_LOOP)
    ] = None,
    class_weights: Annotated[
        bool | None, typer.Option(help="Balance the classes.", rich_help_panel=_LOOP)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs without a better validation.", rich_help_panel=_LOOP),
    ] = None,
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(help="Of the forward pass.", rich_help_panel=_LOOP),
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option(help="Less memory, more time.", rich_help_panel=_LOOP)
    ] = False,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.", rich_help_panel=_LOOP)
    ] = "auto",
    mask_column: options.MaskColumn = None,
    class_names: options.ClassNames = None,
    decoder: Annotated[
        Literal["linear", "unet", "unet-as-coded"] | None,
        typer.Option(help="On the patch tokens. Default: unet.", rich_help_panel=_MASKS),
    ] = None,
    encoder: Annotated[
        Literal["cached", "frozen", "trained"] | None,
        typer.Option(
            help="cached: tokens once, by the engine. frozen: at each step. trained with the "
            "decoder.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    encoder_lr: Annotated[
        float | None,
        typer.Option(min=0, help="A trained encoder's share of --lr.", rich_help_panel=_MASKS),
    ] = None,
    learning_rates: Annotated[
        str | None,
        typer.Option(
            help="Search: 1e-4,1e-3,... train a decoder each, the best again on train and val.",
            rich_help_panel=_MASKS,
        ),
    ] = None,
    loss: Annotated[
        Literal["dice", "dice-ce"] | None, typer.Option(help="By MONAI.", rich_help_panel=_MASKS)
    ] = None,
    views: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cached copies per slice: 1 + augmented ones.", rich_help_panel=_MASKS
        ),
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=1, help="First features of a network.", rich_help_panel=_MASKS),
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(help="3-D networks: slices,rows,columns.", rich_help_panel=_MASKS),
    ] = None,
    per_volume: Annotated[
        int | None,
        typer.Option(min=1, help="Patches of a volume per epoch.", rich_help_panel=_MASKS),
    ] = None,
    spacing: Annotated[
        str | None,
        typer.Option(help="3-D networks: resample to these mm, 1,1,1.", rich_help_panel=_MASKS),
    ] = None,
    select: Annotated[
        Literal["dice", "dice_pooled"] | None,
        typer.Option(help="Chooses the epoch: by volume or pixel.", rich_help_panel=_MASKS),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Of the surface Dice, in mm.", rich_help_panel=_MASKS),
    ] = None,
    backend: Annotated[
        str | None,
        typer.Option(help="Engine of a cached encoder. Default: auto.", rich_help_panel=_MASKS),
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write event files.")
    ] = False,
    workers: options.Workers = None,
    out: options.Out = None,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Tune a backbone on labelled images or masks, and evaluate it once on the test split.

    The validation split chooses the epoch, the test split nothing. The same command goes on with
    a run that was interrupted. Several GPUs: accelerate launch -m dinorad_rt train ...
    """
    from dinorad_rt.cli.segment import parse_rates, parse_triple, refuse_foreign, train_masks
    from dinorad_rt.pipeline import EngineRequest
    from dinorad_rt.training.presets import classify_preset

    shared = {
        "epochs": epochs,
        "steps": steps,
        "batch_size": batch_size,
        "accumulate": accumulate,
        "lr": lr,
        "weight_decay": weight_decay,
        "warmup": warmup,
        "clip_norm": clip_norm,
        "ema": ema,
        "patience": patience,
        "precision": precision,
        "gradient_checkpointing": gradient_checkpointing,
        "device": device,
        "preprocessing": preprocessing,
        "augmentation": augment,
        "flip": flip,
    }
    masks = {
        "decoder": decoder,
        "encoder": encoder,
        "encoder_lr": encoder_lr,
        "learning_rates": learning_rates,
        "loss": loss,
        "views": views,
        "width": width,
        "patch": patch,
        "per_volume": per_volume,
        "spacing": spacing,
        "select": select,
        "tolerance": tolerance,
    }
    labels = {
        "slices": slices,
        "adapter": adapter,
        "rank": rank,
        "alpha": alpha,
        "dropout": dropout,
        "layer_decay": layer_decay,
        "blocks": blocks,
        "patch_mean": patch_mean,
        "head_init": head_init,
        "head_lr_scale": head_lr_scale,
        "label_smoothing": label_smoothing,
        "class_weights": class_weights,
    }
    request = EngineRequest(model=model, weights=weights, image_size=image_size, seed=seed)
    if protocol == "segmentation":
        refuse_foreign(protocol, labels, "the protocols of classification")
        numbers = {
            "learning_rates": parse_rates(learning_rates),
            "patch": parse_triple(patch, "--patch", int),
            "spacing": parse_triple(spacing, "--spacing", float),
        }
        named = None if class_names is None else tuple(class_names.split(","))
        train_masks(
            replace(request, backend=backend or "auto"),
            preset,
            {
                "data": source.data,
                "dataset": source.dataset,
                "root": source.root,
                **source.columns,
                "mask_column": mask_column,
                "class_names": named,
            },
            shared | masks | numbers,
            out=out,
            workers=workers,
            tensorboard=tensorboard,
            as_json=as_json,
        )
        return
    extra = {"mask_column": mask_column, "class_names": class_names, "backend": backend}
    refuse_foreign(protocol, masks | extra, "--protocol segmentation")
    images = source.open(seed)
    describe_dataset(images)
    recipe = classify_preset(protocol, preset).changed(**shared, **labels, seed=seed)
    folder = out or Path("runs") / f"{protocol}-{model.replace('/', '_')}-{images.name}"
    from dinorad_rt.training.classify import train_classifier

    with progress_bar("training", "steps") as advance:
        trained = train_classifier(
            request,
            recipe,
            images,
            folder,
            say=note,
            progress=advance,
            workers=workers,
            tensorboard=tensorboard,
        )
    from dinorad_rt.training.parallel import is_main_process

    if is_main_process():
        _show(trained, folder, as_json)


def _show(trained: Trained, folder: Path, as_json: bool) -> None:
    results = trained.results
    if as_json:
        print_json(
            {
                "run": folder.name,
                "parameters": trained.parameters,
                "history": trained.history.as_dict(),
                "results": None if results is None else results.as_dict(),
            }
        )
        return
    if results is not None:
        from dinorad_rt.reports.table import print_table, results_table

        print_table(results_table(results))
        if results.is_random:
            warn("weights: random. These numbers test the machinery; they say nothing of a model.")
    for title, name in _FILES:
        if (folder / name).exists():
            typer.echo(f"{title:<12} {folder / name}")
    typer.echo(_NEXT.format(run=folder))


_FILES = (
    ("Run", "train.json"),
    ("Weights", "best.safetensors"),
    ("Adapter", "adapter"),
    ("Results", "results.json"),
    ("Predictions", "predictions.parquet"),
    ("TensorBoard", "tensorboard"),
)
_NEXT = """
Try next
  dinorad-rt eval --checkpoint {run} --data DIR    the same test images on an engine
  dinorad-rt export --checkpoint {run}    backbone and head as one checked graph
  dinorad-rt report {run}                 tables and curves to look at"""
