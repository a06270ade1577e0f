"""Presets of classification: the study's recipe, and a sound one of today."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.errors import unknown_name
from dinorad_rt.training.settings import TrainSettings, refuse_unknown

if TYPE_CHECKING:
    from dinorad_rt.training.augment import Augmentation
    from dinorad_rt.training.classifier import HeadSpec
    from dinorad_rt.training.methods import Method, Protocol

PresetName = Literal["modern", "study"]
PRESETS: tuple[PresetName, ...] = ("modern", "study")


@dataclass(frozen=True)
class ClassifyRecipe:
    """Every choice of training a classifier.

    Attributes:
        preset: what these choices began as.
        method: what is trained beside the head.
        settings: of the loop.
        head: what the head sees.
        head_init: probe (a logistic regression on the frozen features: fine-tuning that starts
            from a random head distorts them, arXiv 2202.10054) or random (N(0, 0.01)).
        standardise: features to mean 0 and variance 1, by the training images before training.
        class_weights: weigh the loss by inverse frequency of the classes.
        label_smoothing: share of the target spread over the other classes.
        augmentation: of the training images.
        flip: swap left and right in training.
        slices: of a volume per step, evenly spread with a random start; None for all.
        preprocessing: name of a preset of preprocessing.
    """

    preset: PresetName
    method: Method
    settings: TrainSettings
    head: HeadSpec
    head_init: Literal["probe", "random"] = "probe"
    standardise: bool = True
    class_weights: bool = True
    label_smoothing: float = 0.0
    augmentation: Augmentation = "light"
    flip: bool = False
    slices: int | None = 16
    preprocessing: str = "dinorad"

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for train.json, without those of the loop."""
        values = asdict(self)
        del values["settings"]
        return values | {"method": self.method.as_dict(), "head": self.head.as_dict()}

    def changed(self, **choices: Any) -> ClassifyRecipe:
        """With the choices that are not None; they may be fields of the method, loop or head.

        Raises:
            UnknownNameError: a choice that is no such field.
        """
        given = {name: value for name, value in choices.items() if value is not None}
        refuse_unknown(given, self, self.method, self.settings, self.head)
        parts: dict[str, Any] = {}
        for part in ("method", "settings", "head"):
            fields = getattr(self, part).__dataclass_fields__
            own = {name: given.pop(name) for name in list(given) if name in fields}
            parts[part] = replace(getattr(self, part), **own)
        return replace(self, **parts, **given)


def classify_preset(protocol: Protocol, preset: str = "modern") -> ClassifyRecipe:
    """The recipe of a preset for a protocol.

    Raises:
        UnknownNameError: no such protocol or preset.
    """
    from dinorad_rt.training.methods import PROTOCOLS

    if protocol not in PROTOCOLS:
        raise unknown_name("protocol", protocol, PROTOCOLS, "dinorad-rt train --help")
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS, "dinorad-rt train --help")
    return _study(protocol) if preset == "study" else _modern(protocol)


def _modern(protocol: Protocol) -> ClassifyRecipe:
    """AdamW, warm-up, averages, balanced classes; rates by what is trained."""
    from dinorad_rt.training.classifier import HeadSpec
    from dinorad_rt.training.methods import Method

    rates = {"finetune": 3e-5, "lora": 3e-4, "bitfit": 3e-4, "linear": 1e-3}
    linear = protocol == "linear"
    method = Method(
        protocol=protocol,
        rank=16,
        alpha=16.0,
        dropout=0.05,
        layer_decay=0.75 if protocol == "finetune" else None,
        head_lr_scale={"finetune": 10.0, "lora": 1.0, "bitfit": 1.0, "linear": 1.0}[protocol],
    )
    settings = TrainSettings(
        epochs=50 if linear else 20,
        batch_size=64 if linear else 16,
        lr=rates[protocol],
        weight_decay=0.05,
        warmup=0.1,
        ema=None if linear else 0.99,
        patience=10 if linear else 8,
    )
    return ClassifyRecipe(
        "modern",
        method,
        settings,
        HeadSpec(blocks=1, patch_mean=True),
        head_init="probe",
        label_smoothing=0.0 if linear else 0.1,
        augmentation="none" if linear else "light",
    )


def _study(protocol: Protocol) -> ClassifyRecipe:
    """PROTOCOLS of the study: SGD 0.9 without decay, cosine, rank 48 on qkv, fc1 and fc2.

    Its fine-tuning rates are 1e-5, 1e-6 and 1e-7 (lower for larger models); none is known for its
    adapters, which get the default of its code, 1e-5, like every parameter of the backbone. Its
    heads are searched over 1e-3 to 5e-2: here 1e-2. Selection is by AUROC on the validation
    split; its second stage (the head again, on train and val) is not part of this preset.
    """
    from dinorad_rt.training.classifier import HeadSpec
    from dinorad_rt.training.methods import Method

    linear = protocol == "linear"
    head_lr = 1e-2
    lr = head_lr if linear else 1e-5
    method = Method(
        protocol=protocol,
        rank=48,
        alpha=16.0,
        dropout=0.1,
        adapter_bias=True,
        head_lr_scale=head_lr / lr,
    )
    settings = TrainSettings(
        epochs=10,
        batch_size=128,
        optimizer="sgd",
        lr=lr,
        momentum=0.9,
        weight_decay=0.0,
        clip_norm=None,
        warmup=0.0,
    )
    return ClassifyRecipe(
        "study",
        method,
        settings,
        HeadSpec(blocks=1, patch_mean=False),
        head_init="random",
        standardise=False,
        class_weights=False,
        augmentation="study",
        slices=None,
        preprocessing="study",
    )
