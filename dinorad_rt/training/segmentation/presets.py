"""Recipes of segmentation: a sound one, and the study's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from dinorad_rt.errors import unknown_name
from dinorad_rt.training.segmentation.names import NETWORK_NAMES
from dinorad_rt.training.segmentation.settings import SegmentationSettings
from dinorad_rt.training.settings import TrainSettings, refuse_unknown

PRESETS = ("modern", "study")
STUDY_RATES = (1e-4, 5e-4, 1e-3, 5e-3, 1e-2, 5e-2, 1e-1)


@dataclass(frozen=True)
class SegmentationRecipe:
    """What is segmented by what, and how it is trained."""

    settings: SegmentationSettings
    loop: TrainSettings

    def changed(self, **choices: Any) -> SegmentationRecipe:
        """With the choices that are not None; they may be fields of either part.

        One learning rate, a network from scratch or a trained encoder ends the preset's search.

        Raises:
            UnknownNameError: a choice that is no such field.
        """
        given = {name: value for name, value in choices.items() if value is not None}
        refuse_unknown(given, self.settings, self.loop)
        alone = given.get("model") in NETWORK_NAMES or given.get("encoder") == "trained"
        if alone or "lr" in given:
            given.setdefault("learning_rates", ())
        parts: dict[str, Any] = {}
        for part in ("settings", "loop"):
            fields = getattr(self, part).__dataclass_fields__
            own = {name: given.pop(name) for name in list(given) if name in fields}
            parts[part] = replace(getattr(self, part), **own)
        return SegmentationRecipe(**parts)


def segmentation_preset(name: str = "modern") -> SegmentationRecipe:
    """The recipe of a preset.

    modern: AdamW with warm-up, Dice + CE, the mended U-Net decoder on cached tokens, the epoch
    chosen by the mean Dice over volumes.
    study: as its code (PROTOCOLS.md 2.7): 448 px, SGD, Dice, its decoder and augmentation, and so
    the encoder at each step; its grid of seven learning rates, then training on train and val.

    Raises:
        UnknownNameError: no such preset.
    """
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS, "dinorad-rt train --help")
    if name == "modern":
        loop = TrainSettings(epochs=20, batch_size=16, lr=1e-3, weight_decay=0.01, warmup=0.05)
        return SegmentationRecipe(SegmentationSettings(), loop)
    settings = SegmentationSettings(
        image_size=448,
        learning_rates=STUDY_RATES,
        preprocessing="study",
        decoder="unet-as-coded",
        encoder="frozen",
        loss="dice",
        pooled_loss=False,
        augmentation="study",
        select="dice_pooled",
    )
    loop = TrainSettings(
        epochs=10,
        batch_size=8,
        optimizer="sgd",
        lr=1e-2,
        weight_decay=0.0,
        clip_norm=None,
        warmup=0.0,
    )
    return SegmentationRecipe(settings, loop)
