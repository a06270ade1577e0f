"""Renamed tensors brought into the form that one architecture stores them in.

    separate query, key, value → one matrix; a bias that is zero by design may go
    LayerScale as `ls1.gamma` or `gamma_1`
    the class token's position, where the architecture adds it to the class token itself
    convolutions with their batch norm folded in → the same numbers with a batch norm
    position embeddings at another input size, by the rule of the spec

Every step keeps the function that the weights compute. Imported late: it needs torch.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch

from dinorad_rt.backbones.keys import Tensors
from dinorad_rt.backbones.mismatch import COUNTER
from dinorad_rt.backbones.positions import resample_grid, resample_relative, resample_tokens
from dinorad_rt.backbones.spec import PositionRule

_PARTS = (("q", "query"), ("k", "key"), ("v", "value"))


def adapt(tensors: Tensors, module: torch.nn.Module, rule: PositionRule) -> list[str]:
    """Fit `tensors` to `module`, in place.

    Args:
        tensors: under timm's names, from `keys.rename`.
        module: the architecture at the wanted input size; only shapes are read (meta is fine).
        rule: how position embeddings reach that size.

    Returns:
        Notes on what was changed.
    """
    wanted = module.state_dict()
    notes = []
    _join_attention(tensors)
    _adapt_bias(tensors, wanted)
    _rename_layer_scale(tensors, wanted)
    _split_gate(tensors, wanted)
    notes += _unfold_batch_norm(tensors, module, wanted)
    _reshape_linear(tensors, wanted)
    notes += _adapt_positions(tensors, wanted, _stored_prefix(module, wanted), rule)
    for key in wanted:
        if key.endswith(COUNTER):
            tensors.setdefault(key, torch.zeros((), dtype=torch.long))
    return notes


def _join_attention(tensors: Tensors) -> None:
    """Separate query, key and value matrices → `attn.qkv`; a missing key bias is zero."""
    stems = {found[1] for key in tensors if (found := re.match(r"(.*\.attn\.)(?:q|query)\.", key))}
    for stem in stems:
        for kind in ("weight", "bias"):
            parts = [
                next((tensors.pop(k) for n in names if (k := f"{stem}{n}.{kind}") in tensors), None)
                for names in _PARTS
            ]
            known = [part for part in parts if part is not None]
            if known:
                filled = [torch.zeros_like(known[0]) if part is None else part for part in parts]
                tensors[f"{stem}qkv.{kind}"] = torch.cat(filled)


def _adapt_bias(tensors: Tensors, wanted: Mapping[str, torch.Tensor]) -> None:
    """A joint bias where the architecture wants q and v apart, or none; only zeros may go."""
    for key in [key for key in tensors if key.endswith(".attn.qkv.bias") and key not in wanted]:
        stem = key.removesuffix("qkv.bias")
        names = ("q_bias", "k_bias", "v_bias")
        for name, part in zip(names, tensors.pop(key).chunk(3), strict=True):
            if f"{stem}{name}" in wanted or bool(part.any()):
                tensors[f"{stem}{name}"] = part


def _rename_layer_scale(tensors: Tensors, wanted: Mapping[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if re.search(r"\.ls\d\.gamma$", key)]:
        other = re.sub(r"\.ls(\d)\.gamma$", r".gamma_\1", key)
        if key not in wanted and other in wanted:
            tensors[other] = tensors.pop(key)


def _split_gate(tensors: Tensors, wanted: Mapping[str, torch.Tensor]) -> None:
    for key in [key for key in tensors if ".mlp.fc1." in key and key not in wanted]:
        gate, value = key.replace(".fc1.", ".fc1_g."), key.replace(".fc1.", ".fc1_x.")
        if gate in wanted:
            tensors[gate], tensors[value] = tensors.pop(key).chunk(2)


def _unfold_batch_norm(
    tensors: Tensors, module: torch.nn.Module, wanted: Mapping[str, torch.Tensor]
) -> list[str]:
    """Give a folded convolution's bias to the batch norm behind it: scale 1, mean 0, variance 1."""
    if any(key.endswith(".running_mean") for key in tensors):
        return []
    unfolded = 0
    for key in [key for key in wanted if key.endswith(".running_mean")]:
        norm = key.removesuffix(".running_mean")
        parent, _, index = norm.rpartition(".")
        bias = f"{parent}.{int(index) - 1}.bias" if index.isdecimal() else ""
        if bias not in tensors or bias in wanted:
            continue
        shift = tensors.pop(bias).float()
        eps = float(getattr(module.get_submodule(norm), "eps", 0.0))
        tensors[f"{norm}.bias"] = shift
        tensors[f"{norm}.weight"] = torch.ones_like(shift)
        tensors[key] = torch.zeros_like(shift)
        tensors[f"{norm}.running_var"] = torch.full_like(shift, 1.0 - eps)
        unfolded += 1
    return [f"{unfolded} batch norms were folded into their convolutions"] if unfolded else []


def _reshape_linear(tensors: Tensors, wanted: Mapping[str, torch.Tensor]) -> None:
    """A linear layer over flattened pixels is a convolution of the same numbers."""
    for key, value in tensors.items():
        target = wanted.get(key)
        if (
            target is not None
            and value.ndim == 2
            and target.ndim == 4
            and value.numel() == target.numel()
            and value.shape[0] == target.shape[0]
        ):
            tensors[key] = value.reshape(target.shape)


def _adapt_positions(
    tensors: Tensors, wanted: Mapping[str, torch.Tensor], prefix: int, rule: PositionRule
) -> list[str]:
    for key in [key for key in tensors if re.search(r"\.rel_pos_[hw]$", key) and key in wanted]:
        if tensors[key].shape[1:] == wanted[key].shape[1:]:
            tensors[key] = resample_relative(tensors[key], wanted[key].shape[0])
    target, given = wanted.get("pos_embed"), tensors.get("pos_embed")
    if target is None or given is None or rule not in ("hub", "timm"):
        return []
    if given.ndim == 4 and target.ndim == 4:
        grid = resample_grid(given.float().permute(0, 3, 1, 2), target.shape[1], rule)
        tensors["pos_embed"] = grid.permute(0, 2, 3, 1)
        before, after = given.shape[1], target.shape[1]
    elif given.ndim == 3 and target.ndim == 3:
        given = _fold_class_position(tensors, given, prefix)
        before, after = (math.isqrt(size.shape[1] - prefix) for size in (given, target))
        if before * before + prefix == given.shape[1]:
            tensors["pos_embed"] = resample_tokens(given, after, prefix=prefix, rule=rule)
    else:
        return []
    if before == after:
        return []
    return [f"position embeddings resampled from {before} x {before} to {after} x {after} ({rule})"]


def _stored_prefix(module: torch.nn.Module, wanted: Mapping[str, torch.Tensor]) -> int:
    """How many prefix tokens (class, distillation, registers) have a position of their own."""
    target = wanted.get("pos_embed")
    if target is None or target.ndim != 3:
        return 0
    patches: Any = getattr(module, "patch_embed", None)
    return int(target.shape[1]) - int(patches.num_patches)


def _fold_class_position(tensors: Tensors, given: torch.Tensor, prefix: int) -> torch.Tensor:
    """Add a class position that the target does not store to the class token itself."""
    tokens = given.shape[1]
    if prefix == 0 and math.isqrt(tokens - 1) ** 2 == tokens - 1 and "cls_token" in tensors:
        tensors["cls_token"] = tensors["cls_token"] + given[:, :1]
        tensors["pos_embed"] = given[:, 1:]
    return tensors["pos_embed"]
