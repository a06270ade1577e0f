"""The options of `dinorad-rt train`, by the panels of its help.

None keeps the preset's choice; names are those of the recipes' fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

_LOOP, _DATA = "Training loop", "Images"
_METHOD, _MASKS = "Classification", "Segmentation"


@dataclass(frozen=True)
class ImageOptions:
    """How training images are changed."""

    augmentation: Annotated[
        Literal["none", "light", "strong", "study"] | None,
        typer.Option(
            "--augment",
            metavar="NAME",
            help="Augmentation of training images: none, light, strong or study.",
            rich_help_panel=_DATA,
        ),
    ] = None
    flip: Annotated[
        bool | None,
        typer.Option(
            help="Swap left and right. Off unless asked for: sides matter in a chest X-ray.",
            rich_help_panel=_DATA,
        ),
    ] = None
    slices: Annotated[
        int | None,
        typer.Option(min=1, help="Slices of a volume per training step.", rich_help_panel=_DATA),
    ] = None


@dataclass(frozen=True)
class MethodOptions:
    """What of a classifier is trained."""

    adapter: Annotated[
        Literal["lora", "dora", "rslora", "loha", "lokr"] | None,
        typer.Option(
            metavar="KIND",
            help="For --protocol lora: lora, dora, rslora, loha or lokr.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    rank: Annotated[
        int | None, typer.Option(min=1, help="Of the adapters.", rich_help_panel=_METHOD)
    ] = None
    alpha: Annotated[
        float | None, typer.Option(help="Scale of the adapters.", rich_help_panel=_METHOD)
    ] = None
    dropout: Annotated[
        float | None,
        typer.Option(min=0, max=0.9, help="Of the adapters.", rich_help_panel=_METHOD),
    ] = None
    layer_decay: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1.0,
            help="finetune: each layer's rate by the next one's.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    blocks: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4,
            help="Last blocks whose class token the head sees.",
            rich_help_panel=_METHOD,
        ),
    ] = None
    patch_mean: Annotated[
        bool | None,
        typer.Option(help="The head also sees the mean patch token.", rich_help_panel=_METHOD),
    ] = None
    head_init: Annotated[
        Literal["probe", "random"] | None,
        typer.Option(
            metavar="NAME",
            help="What the head starts from: probe (a logistic regression) or random.",
            rich_help_panel=_METHOD,
        ),
    ] = None


@dataclass(frozen=True)
class LoopOptions:
    """The training loop."""

    epochs: Annotated[
        int | None, typer.Option(min=1, help="At most so many.", rich_help_panel=_LOOP)
    ] = None
    steps: Annotated[
        int | None, typer.Option(min=1, help="End after these.", rich_help_panel=_LOOP)
    ] = None
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Per process.", rich_help_panel=_LOOP)
    ] = None
    accumulate: Annotated[
        int | None, typer.Option(min=1, help="Batches per step.", rich_help_panel=_LOOP)
    ] = None
    lr: Annotated[
        float | None,
        typer.Option(help="Learning rate of the backbone (linear: head).", rich_help_panel=_LOOP),
    ] = None
    head_lr_scale: Annotated[
        float | None,
        typer.Option(min=0, help="The head's rate as a multiple of --lr.", rich_help_panel=_METHOD),
    ] = None
    weight_decay: Annotated[float | None, typer.Option(min=0, rich_help_panel=_LOOP)] = None
    warmup: Annotated[
        float | None,
        typer.Option(help="Share of steps with rising rate.", rich_help_panel=_LOOP),
    ] = None
    clip_norm: Annotated[
        float | None, typer.Option(help="Greatest gradient norm.", rich_help_panel=_LOOP)
    ] = None
    ema: Annotated[
        float | None, typer.Option(help="Decay of averaged weights.", rich_help_panel=_LOOP)
    ] = None
    label_smoothing: Annotated[
        float | None, typer.Option(min=0, max=0.5, rich_help_panel=_METHOD)
    ] = None
    class_weights: Annotated[
        bool | None, typer.Option(help="Balance the classes.", rich_help_panel=_METHOD)
    ] = None
    patience: Annotated[
        int | None,
        typer.Option(min=1, help="Epochs without a better validation.", rich_help_panel=_LOOP),
    ] = None
    precision: Annotated[
        Literal["fp32", "bf16", "fp16"] | None,
        typer.Option(
            metavar="TYPE", help="Of the forward pass: fp32, bf16 or fp16.", rich_help_panel=_LOOP
        ),
    ] = None
    gradient_checkpointing: Annotated[
        bool,
        typer.Option(
            "--gradient-checkpointing", help="Less memory, more time.", rich_help_panel=_LOOP
        ),
    ] = False
    device: Annotated[
        str,
        typer.Option(
            metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=_LOOP
        ),
    ] = "auto"


@dataclass(frozen=True)
class MaskOptions:
    """What only segmentation knows."""

    decoder: Annotated[
        Literal["linear", "unet", "unet-as-coded"] | None,
        typer.Option(
            metavar="NAME",
            help="On the patch tokens: linear, unet (the default) or unet-as-coded (the paper's).",
            rich_help_panel=_MASKS,
        ),
    ] = None
    encoder: Annotated[
        Literal["cached", "frozen", "trained"] | None,
        typer.Option(
            metavar="HOW",
            help="cached: tokens once, by the engine. frozen: at each step. trained: with the "
            "decoder.",
            rich_help_panel=_MASKS,
        ),
    ] = None
    encoder_lr: Annotated[
        float | None,
        typer.Option(min=0, help="A trained encoder's share of --lr.", rich_help_panel=_MASKS),
    ] = None
    learning_rates: Annotated[
        str | None,
        typer.Option(
            metavar="NUMBERS",
            help="Search: 1e-4,1e-3,... train a decoder each, the best again on train and val.",
            rich_help_panel=_MASKS,
        ),
    ] = None
    loss: Annotated[
        Literal["dice", "dice-ce"] | None, typer.Option(help="By MONAI.", rich_help_panel=_MASKS)
    ] = None
    views: Annotated[
        int | None,
        typer.Option(
            min=1, help="Cached copies per slice: 1 + augmented ones.", rich_help_panel=_MASKS
        ),
    ] = None
    width: Annotated[
        int | None,
        typer.Option(min=1, help="First features of a network.", rich_help_panel=_MASKS),
    ] = None
    patch: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,N", help="3-D networks: slices,rows,columns.", rich_help_panel=_MASKS
        ),
    ] = None
    per_volume: Annotated[
        int | None,
        typer.Option(min=1, help="Patches of a volume per epoch.", rich_help_panel=_MASKS),
    ] = None
    spacing: Annotated[
        str | None,
        typer.Option(
            metavar="X,X,X", help="3-D networks: resample to these mm.", rich_help_panel=_MASKS
        ),
    ] = None
    select: Annotated[
        Literal["dice", "dice_pooled"] | None,
        typer.Option(help="Chooses the epoch: by volume or pixel.", rich_help_panel=_MASKS),
    ] = None
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Of the surface Dice, in mm.", rich_help_panel=_MASKS),
    ] = None
    backend: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a cached encoder's engine. Default: auto.",
            rich_help_panel=_MASKS,
        ),
    ] = None
