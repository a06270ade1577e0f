"""`SegmentationSettings`: what is segmented by what; the loop's own choices are `TrainSettings`."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.training.segmentation.names import (
    AUGMENTATIONS,
    DECODERS,
    ENCODERS,
    LOSSES,
    NETWORK_NAMES,
    EncoderMode,
    LossName,
)


@dataclass(frozen=True)
class SegmentationSettings:
    """Every choice of a segmentation run beside the loop's.

    Attributes:
        model: a backbone, or a network from scratch (`baselines.NETWORKS`).
        weights: of the backbone: hub, random, auto or a path.
        image_size: side of the slices in pixels; None for the backbone's own.
        preprocessing: name of a preset.
        decoder: linear, unet or unet-as-coded; of no meaning for networks from scratch.
        encoder: cached (tokens computed once by the engine), frozen (run at each step) or trained.
        encoder_lr: share of the learning rate that a trained encoder gets.
        learning_rates: several, as the study's search: a decoder for each is trained at once, the
            one with the best validation at the end is trained again on train and val, and its last
            weights are judged. Empty: the loop's own rate, the epoch chosen by validation.
        loss: dice or dice-ce.
        pooled_loss: the Dice of the loss is that of a whole batch, not of each slice.
        augmentation: none, light or study.
        flip: mirror left and right in `light`; None to do so unless a class is called left or
            right.
        views: with a cached encoder, copies of each training slice whose tokens are kept: the
            plain one and views - 1 augmented ones.
        width: features of a network's first level; None for its own.
        patch: (slices, rows, columns) of 3-D networks.
        per_volume: patches of each volume in an epoch of a 3-D network.
        spacing: (slice, row, column) millimetres to which 3-D networks resample; None to leave the
            volumes as they are.
        select: validation metric that chooses the epoch: dice (mean over volumes) or dice_pooled
            (over all pixels, as the study).
        tolerance: of the surface Dice on the test split, in millimetres (pixels without spacing).
    """

    model: str = "vits14"
    weights: str = "hub"
    image_size: int | None = None
    preprocessing: str = "dinorad"
    decoder: str = "unet"
    encoder: EncoderMode = "cached"
    encoder_lr: float = 0.1
    learning_rates: tuple[float, ...] = ()
    loss: LossName = "dice-ce"
    pooled_loss: bool = True
    augmentation: str = "light"
    flip: bool | None = None
    views: int = 1
    width: int | None = None
    patch: tuple[int, int, int] = (64, 64, 64)
    per_volume: int = 2
    spacing: tuple[float, float, float] | None = None
    select: Literal["dice", "dice_pooled"] = "dice"
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what means nothing.

        Raises:
            UnknownNameError: a name that is none of those allowed.
            ProtocolError: a number out of range.
        """
        for kind, name, known in (
            ("decoder", self.decoder, DECODERS),
            ("encoder mode", self.encoder, ENCODERS),
            ("loss", self.loss, LOSSES),
            ("augmentation", self.augmentation, AUGMENTATIONS),
            ("validation metric", self.select, ("dice", "dice_pooled")),
        ):
            if name not in known:
                raise unknown_name(kind, name, known, "dinorad-rt train --help")
        if self.learning_rates and (self.model in NETWORK_NAMES or self.encoder == "trained"):
            raise ProtocolError(
                "A search of learning rates trains many decoders on one frozen encoder; "
                f"{self.model} with encoder {self.encoder} has none.",
                "Leave out --learning-rates, or use a backbone with --encoder cached or frozen.",
            )
        if not all(0 < rate < float("inf") for rate in self.learning_rates):
            raise ProtocolError(f"Learning rates {self.learning_rates}; allowed: above 0.", "")
        if self.views < 1 or self.per_volume < 1 or min(self.patch) < 8 or not self.tolerance >= 0:
            raise ProtocolError(
                f"views {self.views}, per_volume {self.per_volume}, patch {self.patch}, tolerance "
                f"{self.tolerance}: allowed are views and patches per volume from 1, sides from 8 "
                "and a tolerance from 0.",
                "Correct --views, --per-volume, --patch or --tolerance.",
            )
        if self.spacing is not None and not all(0 < step < 1000 for step in self.spacing):
            raise ProtocolError(
                f"A spacing of {self.spacing} mm is none.", "Give three numbers above 0: 1,1,1"
            )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, without the path of weights."""
        return asdict(self) | {"weights": Path(self.weights).name}
