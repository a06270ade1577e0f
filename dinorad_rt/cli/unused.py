"""Options of `train` that the other choices leave without a use: refused, not passed over."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dinorad_rt.backbones.locate import NAMED_WEIGHTS
from dinorad_rt.errors import ProtocolError
from dinorad_rt.training.segmentation.names import NETWORK_NAMES, VOLUME_NETWORKS

if TYPE_CHECKING:
    from dinorad_rt.training.segmentation.settings import SegmentationSettings

_OF_ADAPTERS = ("adapter", "rank", "alpha", "dropout")
_OF_BACKBONES = ("decoder", "encoder", "encoder_lr", "learning_rates", "views", "backend")
_OF_VOLUMES = ("patch", "per_volume", "spacing")


def refuse_foreign(protocol: str, given: Mapping[str, Any], meant_for: str) -> None:
    """Refuse options that the protocol would ignore.

    Args:
        protocol: as the user named it.
        given: option → value, None where it was not given.
        meant_for: which protocols take them.

    Raises:
        ProtocolError: naming them.
    """
    _refuse(given, tuple(given), f"they belong to {meant_for}, and this is --protocol {protocol}")


def refuse_unused_of_classes(protocol: str, given: Mapping[str, Any], model: str) -> None:
    """Refuse what a protocol of classification does not read, and networks for masks.

    Args:
        protocol: finetune, lora, bitfit or linear.
        given: option → value, None where it was not given.
        model: after --model.

    Raises:
        ProtocolError: naming them.
    """
    if model in NETWORK_NAMES:
        raise ProtocolError(
            f"{model} is a network for masks, trained from scratch; --protocol {protocol} tunes a "
            "backbone on classes.",
            "Use --protocol segmentation, or a backbone: dinorad-rt list models",
        )
    if protocol != "lora":
        _refuse(given, _OF_ADAPTERS, f"--protocol {protocol} has no adapters, --protocol lora has")
    if protocol != "finetune":
        _refuse(given, ("layer_decay",), "only --protocol finetune has a rate for each layer")


def refuse_unused_of_masks(given: Mapping[str, Any], settings: SegmentationSettings) -> None:
    """Refuse what the network or the encoder of a segmentation does not read.

    Args:
        given: option → value, None where it was not given.
        settings: chosen by them.

    Raises:
        ProtocolError: naming them.
    """
    model, encoder = settings.model, settings.encoder
    if model not in NETWORK_NAMES:
        _refuse(given, ("width", *_OF_VOLUMES), f"{model} is no network from scratch")
        if encoder != "trained":
            _refuse(given, ("encoder_lr",), f"the encoder is {encoder}, not trained")
        if encoder != "cached":
            _refuse(given, ("views", "backend"), f"the encoder is {encoder}, not cached")
        return
    if settings.weights not in NAMED_WEIGHTS:
        raise ProtocolError(
            f"{model} is trained from scratch; --weights would not be used.",
            "Leave --weights out, or name a backbone with --model.",
        )
    _refuse(given, _OF_BACKBONES, f"{model} is trained from scratch, without a backbone")
    if model in VOLUME_NETWORKS:
        _refuse(given, ("image_size",), f"{model} takes patches of volumes (--patch), no slices")
    else:
        _refuse(given, _OF_VOLUMES, f"{model} takes slices, no volumes")


def _refuse(given: Mapping[str, Any], names: Sequence[str], why: str) -> None:
    options = ["--" + name.replace("_", "-") for name in names if given.get(name) is not None]
    if options:
        raise ProtocolError(
            f"{', '.join(options)} would have no effect: {why}.",
            "Leave out what has no effect, or change the other choice.",
        )
