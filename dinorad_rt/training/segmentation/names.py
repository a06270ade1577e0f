"""Names that the command line offers; imports nothing, so that `--help` stays fast."""

from __future__ import annotations

from typing import Literal

DecoderName = Literal["linear", "unet", "unet-as-coded"]
AugmentationName = Literal["none", "light", "study"]
EncoderMode = Literal["cached", "frozen", "trained"]
LossName = Literal["dice", "dice-ce"]

DECODERS: tuple[DecoderName, ...] = ("linear", "unet", "unet-as-coded")
AUGMENTATIONS: tuple[AugmentationName, ...] = ("none", "light", "study")
ENCODERS: tuple[EncoderMode, ...] = ("cached", "frozen", "trained")
LOSSES: tuple[LossName, ...] = ("dice", "dice-ce")
NETWORK_NAMES = ("unet", "transunet", "unet3d", "segresnet", "swinunetr")
VOLUME_NETWORKS = ("unet3d", "segresnet", "swinunetr")
