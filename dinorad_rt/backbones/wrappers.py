"""What training frameworks wrap around a state dict: entries of a checkpoint, prefixes of names.

    torch tutorials  {"epoch": 3, "model_state_dict": ..., "optimizer_state_dict": ...}
    DINO, DINOv2     {"teacher": {"backbone.blocks.0...": ...}, "student": ...}
    Lightning        {"state_dict": {"model.blocks.0...": ...}, "callbacks": ...}
    MONAI, nnU-Net   {"net": ...}, {"network_weights": ...}

Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dinorad_rt.backbones.keys import Tensors
from dinorad_rt.errors import WeightsError

WRAPPERS = (
    "teacher target_encoder state_dict_ema model_ema ema params_ema state_dict model_state_dict "
    "model module net network network_weights params student encoder"
).split()
"""Entries of a training checkpoint that hold the weights, the best first."""

PREFIXES = ("module.", "_orig_mod.", "backbone.", "timm_model.", "model.")

_SAVE_HINT = (
    "Save the weights alone, torch.save(model.state_dict(), PATH), or as safetensors, and give "
    "that file to --weights."
)


def unwrap(content: Any, path: Path, notes: list[str]) -> Tensors:
    """The state dict in what a file holds, and a note on each entry that it was taken from.

    Raises:
        WeightsError: there is none, or several and none of them is known to be the best.
    """
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if _holds_tensors(content.get(key))]
        inner = inner or _unnamed_states(content, path)
        if not inner:
            tensors = {str(key): value for key, value in content.items() if torch.is_tensor(value)}
            if tensors:
                return tensors
            break
        averaged = [key for key in content if "ema" in str(key) and _holds_tensors(content[key])]
        beside = dict.fromkeys([*inner[1:], *averaged])
        beside.pop(inner[0], None)
        others = f" (not {', '.join(map(str, beside))})" if beside else ""
        notes.append(f"taken from the entry {inner[0]!r}{others}")
        content = content[inner[0]]
    raise WeightsError(f"{path.name} holds no state dict of tensors.", _SAVE_HINT)


def _holds_tensors(content: Any, levels: int = 4) -> bool:
    return isinstance(content, Mapping) and any(
        torch.is_tensor(value) or (levels > 0 and _holds_tensors(value, levels - 1))
        for value in content.values()
    )


def _unnamed_states(content: Mapping[Any, Any], path: Path) -> list[Any]:
    """Entries of other names that are state dicts, the largest first."""
    sizes = {
        key: sum(map(torch.is_tensor, value.values()))
        for key, value in content.items()
        if isinstance(value, Mapping)
    }
    found = sorted((key for key in sizes if sizes[key]), key=sizes.__getitem__, reverse=True)
    equal = [str(key) for key in found if sizes[key] == sizes[found[0]]]
    if len(equal) > 1:
        raise WeightsError(
            f"{path.name} holds {len(equal)} networks, under the entries {', '.join(equal)}.",
            "Save the one that is meant alone, torch.save(checkpoint[NAME], PATH), and give that "
            "file to --weights.",
        )
    return found


def strip_prefixes(tensors: Tensors, notes: list[str]) -> Tensors:
    """Remove wrappers that all keys share; beside `backbone.`, training heads may stand."""
    stripped = True
    while stripped:
        stripped = False
        for prefix in PREFIXES:
            inside = [key for key in tensors if key.startswith(prefix)]
            heads = [key for key in tensors if key.split(".")[0].endswith("_head")]
            if inside and len(inside) + (len(heads) if prefix == "backbone." else 0) == len(
                tensors
            ):
                if len(inside) < len(tensors):
                    notes.append(f"left out: training heads ({len(heads)})")
                tensors = {key.removeprefix(prefix): tensors[key] for key in inside}
                stripped = True
    return tensors
