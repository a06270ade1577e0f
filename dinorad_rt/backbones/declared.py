"""What shapes do not show: the heads that share a matrix, the activation, how pixels are scaled.

Weights of another variant load without a complaint and give wrong numbers. The files that hubs lay
beside weights say what they are for; they are read as data and held against what was asked for.

    transformers  config.json (num_attention_heads, hidden_act, image_size),
                  preprocessor_config.json (image_mean, image_std, rescale_factor, do_normalize)
    timm          config.json (pretrained_cfg: mean, std)
    open_clip     open_clip_config.json (model_cfg, preprocess_cfg)

How pixels are scaled belongs to weights, and for weights of the user's own nobody but these files
knows it: they are followed. Weights from the hub keep the catalogue's facts: which of these files
lie in the hub's cache is chance, and one command must give the same numbers on every machine.

Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from dinorad_rt.backbones.registry import list_specs
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError
from dinorad_rt.files import read_json

_FILES = ("preprocessor_config.json", "open_clip_config.json", "config.json")
_ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "GELU"),
    "quick_gelu": "QuickGELU",
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate"), "GELUTanh"),
    "relu": "ReLU",
}
"""Name in transformers → class in timm. Gated perceptrons compute SiLU whatever is stated."""

_TAKEN_FOR_ONE_ANOTHER = ("GELU", "QuickGELU", "GELUTanh")
_CLOSE = 1e-3
Triple = tuple[float, float, float]
_OTHER = "Give --model the architecture of these weights; see all: dinorad-rt list models"


def check_folder(folder: Path, module: torch.nn.Module, spec: BackboneSpec) -> None:
    """Hold what lies beside the weights against the architecture.

    Args:
        folder: of a model as a hub lays it out; what it lacks is not checked.
        module: the architecture.
        spec: what was asked for.

    Raises:
        CheckpointMismatchError: another number of heads, another activation, or images that are
            not square.
    """
    for name in _FILES:
        stated = _read(folder / name)
        tower = _tower(stated)
        heads = tower.get("num_attention_heads")
        if isinstance(heads, int):
            check_heads(module, heads, f"{name} beside the weights says", spec)
        _check_activation(module, tower, name, spec)
        _check_square(tower, name, spec)


def check_heads(module: torch.nn.Module, heads: int, said_by: str, spec: BackboneSpec) -> None:
    """Raise where the attention of a transformer has another number of heads than `heads`."""
    block = _first_block(module)
    ours = getattr(getattr(block, "attn", None), "num_heads", None)
    if isinstance(ours, int) and ours != heads:
        raise CheckpointMismatchError(
            f"{said_by} {heads} attention heads; {spec.name} ({spec.title}) has {ours}. The "
            "tensors have the same shapes either way, and the embeddings would be wrong.",
            _with_heads(heads, spec),
        )


def _with_heads(heads: int, spec: BackboneSpec) -> str:
    fits = [
        one.name
        for one in list_specs()
        if one.architecture == spec.architecture and ("num_heads", heads) in one.create
    ]
    return f"Use --model {fits[0]}" if fits else _OTHER


def _check_activation(
    module: torch.nn.Module, tower: Mapping[str, Any], name: str, spec: BackboneSpec
) -> None:
    stated = _ACTIVATIONS.get(str(tower.get("hidden_act")))
    ours = _activation(module)
    if stated is None or ours is None or stated == ours:
        return
    plain, quick = "_clip_", "_clip_quickgelu_"
    other = spec.architecture.replace(quick, plain)
    if stated == "QuickGELU":
        other = other.replace(plain, quick)
    known = next((one.name for one in list_specs() if one.architecture == other), other)
    raise CheckpointMismatchError(
        f"{name} beside the weights says that they were trained with {stated}; {spec.name} "
        f"({spec.title}) computes {ours}. The tensors have the same shapes either way, and the "
        "embeddings would be wrong.",
        _OTHER if other == spec.architecture else f"Use --model {known}",
    )


def _check_square(tower: Mapping[str, Any], name: str, spec: BackboneSpec) -> None:
    """A grid of 8 x 32 positions has as many as one of 16 x 16."""
    sides = tower.get("image_size")
    if isinstance(sides, list) and len(set(map(str, sides))) > 1:
        raise CheckpointMismatchError(
            f"{name} beside the weights says that they take images of {' x '.join(map(str, sides))}"
            f" pixels. {spec.name} ({spec.title}) takes square ones, and their positions would be "
            "taken for those of a square grid.",
            "Look for weights of square images.",
        )


def _activation(module: torch.nn.Module) -> str | None:
    """Of the first block's MLP, where it is one of those that are taken for one another."""
    part = getattr(getattr(_first_block(module), "mlp", None), "act", None)
    name = type(part).__name__
    return name if name in _TAKEN_FOR_ONE_ANOTHER else None


def _first_block(module: torch.nn.Module) -> Any:
    blocks = getattr(module, "blocks", None)
    return blocks[0] if isinstance(blocks, torch.nn.Sequential | torch.nn.ModuleList) else None


@dataclass(frozen=True)
class Normalisation:
    """What the publisher subtracts from pixels in [0, 1] and divides them by, per channel.

    Attributes:
        mean, std: of pixels in [0, 1].
        file: that states them.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    file: str

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for manifests."""
        return {"mean": list(self.mean), "std": list(self.std), "file": self.file}


def other_normalisation(folder: Path, spec: BackboneSpec) -> Normalisation | None:
    """What the files of a folder state, where it is not the spec's own.

    Raises:
        CheckpointMismatchError: two files state different ones.
    """
    found = [item for name in _FILES for item in _normalisations(_read(folder / name), name)]
    for other in found[1:]:
        if not _same(found[0], other):
            raise CheckpointMismatchError(
                f"The files beside the weights do not agree: {_text(found[0])}, {_text(other)}.",
                "Remove the entry that is wrong, or give the weights alone in another folder.",
            )
    return found[0] if found and not _same(found[0], spec) else None


def normalisation_note(found: Normalisation, spec: BackboneSpec, *, followed: bool) -> str:
    """Whose numbers pixels are normalised with, and which model here has those of the file."""
    fits = next(
        (
            f"; those are {one.name}'s (--model {one.name})"
            for one in list_specs()
            if one.architecture == spec.architecture and _same(found, one)
        ),
        "",
    )
    own = f"{spec.name}'s own are {_numbers(spec)}"
    if followed:
        return f"pixels are normalised as beside the weights: {_text(found)}; {own}{fits}"
    return f"pixels are normalised with {spec.name}'s own {_numbers(spec)}; {_text(found)}{fits}"


def _normalisations(stated: Mapping[str, Any], name: str) -> Iterator[Normalisation]:
    """Those that a file states, brought to pixels in [0, 1]."""
    for part in (stated, _inner(stated, "pretrained_cfg"), _inner(stated, "preprocess_cfg")):
        mean = _triple(part.get("image_mean", part.get("mean")))
        std = _triple(part.get("image_std", part.get("std")))
        if part.get("do_normalize") is False:
            mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
        if mean is None or std is None or min(std) <= 0:
            continue
        whole = 255.0 * _rescale(part)
        yield Normalisation(_divided(mean, whole), _divided(std, whole), name)


def _rescale(part: Mapping[str, Any]) -> float:
    """What transformers multiplies pixels of 0 to 255 by before it normalises them."""
    factor = part.get("rescale_factor")
    if part.get("do_rescale") is False:
        return 1.0
    if not isinstance(factor, int | float) or factor <= 0 or abs(factor - 1 / 255) < _CLOSE / 255:
        return 1 / 255
    return float(factor)


def _divided(values: Triple, by: float) -> Triple:
    first, second, third = (value / by for value in values)
    return first, second, third


def _same(one: Normalisation | BackboneSpec, other: Normalisation | BackboneSpec) -> bool:
    pairs = zip((*one.mean, *one.std), (*other.mean, *other.std), strict=True)
    return all(abs(a - b) < _CLOSE for a, b in pairs)


def _tower(stated: Mapping[str, Any]) -> Mapping[str, Any]:
    """The part of a configuration that is about images, `hidden_act` as transformers calls it."""
    model = _inner(stated, "model_cfg")
    if model.get("quick_gelu") is True:
        return {"hidden_act": "quick_gelu"}
    return _inner(stated, "vision_config") or stated


def _read(path: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is none to read: weights do not need it."""
    try:
        return read_json(path)
    except (OSError, ValueError, RecursionError):
        return {}


def _inner(stated: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = stated.get(key)
    return found if isinstance(found, dict) else {}


def _triple(values: object) -> Triple | None:
    if not isinstance(values, list) or len(values) != 3:
        return None
    if not all(isinstance(value, int | float) for value in values):
        return None
    first, second, third = map(float, values)
    return first, second, third


def _text(found: Normalisation) -> str:
    return f"{found.file} states {_numbers(found)}"


def _numbers(of: Normalisation | BackboneSpec) -> str:
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (of.mean, of.std))
    return f"mean {mean} and standard deviation {std}"
