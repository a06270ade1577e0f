"""What shapes do not show: the heads that share a matrix, the activation, how pixels are scaled.

Weights of another variant load without a complaint and give wrong numbers. The files that hubs lay
beside weights say what they are for; they are read as data and held against what was asked for.

    transformers  config.json (num_attention_heads, hidden_act), preprocessor_config.json
    timm          config.json (pretrained_cfg: mean, std)
    open_clip     open_clip_config.json (model_cfg, preprocess_cfg)

Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from dinorad_rt.backbones.registry import list_specs
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError
from dinorad_rt.files import read_json

_FILES = ("config.json", "preprocessor_config.json", "open_clip_config.json")
_ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "GELU"),
    "quick_gelu": "QuickGELU",
    **dict.fromkeys(("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_accurate"), "GELUTanh"),
    "relu": "ReLU",
}
"""Name in transformers → class in timm. Gated perceptrons compute SiLU whatever is stated."""

_TAKEN_FOR_ONE_ANOTHER = ("GELU", "QuickGELU", "GELUTanh")
_CLOSE = 1e-3
_OTHER = "Give --model the architecture of these weights; see all: dinorad-rt list models"


def check_folder(folder: Path, module: torch.nn.Module, spec: BackboneSpec) -> tuple[str, ...]:
    """Hold what lies beside the weights against the architecture and its normalisation.

    Args:
        folder: of a model as a hub lays it out; what it lacks is not checked.
        module: the architecture.
        spec: what was asked for.

    Returns:
        A note where the publisher's mean and standard deviation are others than the spec's.

    Raises:
        CheckpointMismatchError: another number of heads, or another activation.
    """
    notes: list[str] = []
    for name in _FILES:
        stated = _read(folder / name)
        tower = _tower(stated)
        heads = tower.get("num_attention_heads")
        if isinstance(heads, int):
            check_heads(module, heads, f"{name} beside the weights says", spec)
        _check_activation(module, tower, name, spec)
        notes += _normalisation(stated, name, spec)
    return tuple(dict.fromkeys(notes))


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


def _activation(module: torch.nn.Module) -> str | None:
    """Of the first block's MLP, where it is one of those that are taken for one another."""
    part = getattr(getattr(_first_block(module), "mlp", None), "act", None)
    name = type(part).__name__
    return name if name in _TAKEN_FOR_ONE_ANOTHER else None


def _first_block(module: torch.nn.Module) -> Any:
    blocks = getattr(module, "blocks", None)
    return blocks[0] if isinstance(blocks, torch.nn.Sequential | torch.nn.ModuleList) else None


def _normalisation(stated: Mapping[str, Any], name: str, spec: BackboneSpec) -> Iterator[str]:
    """A note where a file states another mean or standard deviation than the spec."""
    for part in (stated, _inner(stated, "pretrained_cfg"), _inner(stated, "preprocess_cfg")):
        mean = _triple(part.get("image_mean", part.get("mean")))
        std = _triple(part.get("image_std", part.get("std")))
        if mean is None or std is None or _same((mean, std), spec):
            continue
        fits = next(
            (
                f"; those are {one.name}'s (--model {one.name})"
                for one in list_specs()
                if one.architecture == spec.architecture and _same((mean, std), one)
            ),
            "",
        )
        yield (
            f"{name} beside the weights normalises with mean {_text(mean)} and standard deviation "
            f"{_text(std)}; {spec.name} with {_text(spec.mean)} and {_text(spec.std)}{fits}"
        )


def _same(given: tuple[tuple[float, ...], tuple[float, ...]], spec: BackboneSpec) -> bool:
    wanted = (*spec.mean, *spec.std)
    return all(abs(a - b) < _CLOSE for a, b in zip((*given[0], *given[1]), wanted, strict=True))


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


def _triple(values: object) -> tuple[float, ...] | None:
    if not isinstance(values, list) or len(values) != 3:
        return None
    return tuple(map(float, values)) if all(isinstance(v, int | float) for v in values) else None


def _text(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:g}" for value in values)
