"""Our DINOv2 against the official implementation, on random weights under official key names.

    python -m benchmarks.official_dinov2 --checkout DIR [--models vits14 vits14_reg ...]

`DIR` is a checkout of facebookresearch/dinov2. The official model is filled at random with every
tensor alive; its state dict is saved as the published .pth is, and once more with the chunked
block names of training checkpoints. Both files go through `load_backbone(weights=PATH)`. Compared:
class tokens of the last four blocks and patch tokens of the last one, after the final norm. The
control column has the same file under the other position rule. Bar: cosine at least 0.99999.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cosine_similarity

from benchmarks.harness import save, table
from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.backbones.random_weights import fill_random
from dinorad_rt.backbones.registry import get_spec, register

BAR = 0.99999
SMALL_GIANT = {"embed_dim": 96, "depth": 6, "num_heads": 4}
MODELS = ["vits14", "vits14_reg", "vitb14", "vitb14_reg", "giant", "giant_reg"]
Tokens = tuple[torch.Tensor, torch.Tensor]


def main() -> None:
    """Compare every model at every size; exits with 1 if the bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--sizes", nargs="+", type=int, default=[224, 448, 518])
    arguments = parser.parse_args()
    os.environ.setdefault("XFORMERS_DISABLED", "1")
    warnings.filterwarnings("ignore", message="xFormers")
    sys.path.insert(0, str(arguments.checkout))
    for name, base in (("giant", "vitg14"), ("giant_reg", "vitg14_reg")):
        small = tuple(SMALL_GIANT.items())
        register(replace(get_spec(base), name=name, dim=96, sha256=None, create=small))
    rows = [row for name in arguments.models for row in _compare(name, arguments.sizes)]
    table(rows)
    worst = min(min(row["cls_cosine"], row["patch_cosine"]) for row in rows)
    print(f"worst cosine {worst:.8f}, bar {BAR}")
    save("official_dinov2", {"bar": BAR, "weights": "random", "worst_cosine": worst, "rows": rows})
    if worst < BAR:
        raise SystemExit(1)


def _official(name: str) -> torch.nn.Module:
    """The official class as the official hub builds it."""
    from dinov2.models import vision_transformer as official

    registers = name.endswith("_reg")
    options: dict[str, Any] = {
        "img_size": 518,
        "patch_size": 14,
        "init_values": 1.0,
        "block_chunks": 0,
        "num_register_tokens": 4 if registers else 0,
        "interpolate_antialias": registers,
        "interpolate_offset": 0.0 if registers else 0.1,
    }
    if name.startswith("giant"):
        block = official.partial(official.Block, attn_class=official.MemEffAttention)
        options |= {"ffn_layer": "swiglufused", "mlp_ratio": 4, "block_fn": block} | SMALL_GIANT
        return official.DinoVisionTransformer(**options)
    if name.startswith("vitg"):
        options["ffn_layer"] = "swiglufused"
    sizes = {"s": "vit_small", "b": "vit_base", "l": "vit_large", "g": "vit_giant2"}
    return getattr(official, sizes[name[3]])(**options)


def _compare(name: str, sizes: list[int]) -> list[dict[str, Any]]:
    model = _official(name).eval()
    fill_random(model, 7, convolutional=False)
    plain = model.state_dict()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for keys, state in (("plain", plain), ("chunked", _chunked(plain, len(model.blocks)))):
            path = Path(folder) / f"{name}_{keys}.pth"
            torch.save(state, path)
            for size in sizes if keys == "plain" else sizes[:1]:
                rows.append({"model": name, "keys": keys} | _row(name, model, path, size))
    return rows


def _row(name: str, model: torch.nn.Module, path: Path, size: int) -> dict[str, Any]:
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(size))
    with torch.inference_mode():
        official = _official_tokens(model, images)
        ours = _our_tokens(name, path, size, images)
        other = _our_tokens(_control(name), path, size, images)
    return {
        "image_size": size,
        "cls_cosine": _worst(ours[0], official[0]),
        "patch_cosine": _worst(ours[1], official[1]),
        "largest_difference": (ours[1] - official[1]).abs().max().item(),
        "control_cls_cosine": _worst(other[0], official[0]),
        "two_images_cosine": _worst(official[0][:1], official[0][1:]),
    }


def _worst(left: torch.Tensor, right: torch.Tensor) -> float:
    return cosine_similarity(left, right, dim=-1).min().item()


def _our_tokens(name: str, path: Path, size: int, images: torch.Tensor) -> Tokens:
    module: Any = load_backbone(name, weights=path, image_size=size).module
    found = module.forward_intermediates(
        images,
        indices=4,
        norm=True,
        output_fmt="NLC",
        return_prefix_tokens=True,
        intermediates_only=True,
    )
    return torch.stack([prefix[:, 0] for _, prefix in found], 1), found[-1][0]


def _official_tokens(model: Any, images: torch.Tensor) -> Tokens:
    found = model.get_intermediate_layers(images, n=4, return_class_token=True, norm=True)
    return torch.stack([cls for _, cls in found], 1), found[-1][0]


def _control(name: str) -> str:
    spec = get_spec(name)
    rule = "timm" if spec.position == "hub" else "hub"
    control = replace(spec, name=f"{name}-control", position=rule)
    register(control)
    return control.name


def _chunked(state: dict[str, torch.Tensor], blocks: int) -> dict[str, torch.Tensor]:
    """Key names of a training checkpoint with two chunks of blocks."""
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "blocks":
            parts.insert(1, str(int(parts[1]) // (blocks // 2)))
        renamed[".".join(parts)] = value
    return renamed


if __name__ == "__main__":
    main()
