"""Attention rollout (Abnar and Zuidema, arXiv 2005.00928): where a transformer's class token looks.

Queries and keys are taken where every form of a model calls scaled dot-product attention, so live
modules and exported programs are asked alike, and nothing of a backbone is written again. Each
block's attention is meaned over its heads, mixed half and half with the residual path, and
multiplied through all blocks. The map does not depend on a class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.errors import DataError

if TYPE_CHECKING:
    import torch

_CALL = "scaled_dot_product_attention"
_POSITIONAL = ("query", "key", "value", "attn_mask", "dropout_p", "is_causal")
MOST_PREFIX = 16
"""More tokens than these in front of the patches are no class and register tokens."""


def attentions(
    module: Callable[[torch.Tensor], torch.Tensor], pixels: np.ndarray
) -> list[np.ndarray]:
    """Attention of each block for one image, meaned over heads.

    Args:
        module: (rows, 3, H, W) → (rows, classes), in eval mode.
        pixels: (3, H, W) float32, normalised.

    Returns:
        (tokens, tokens) float64 for each block, first block first; rows add up to 1.

    Raises:
        DataError: the model has no attention over the whole image, as CNNs and windowed networks.
    """
    import torch
    from torch.overrides import TorchFunctionMode

    found: list[torch.Tensor] = []

    class Listen(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            kwargs = kwargs or {}
            if _CALL in str(func):
                found.append(_shares(dict(zip(_POSITIONAL, args, strict=False)) | kwargs))
            return func(*args, **kwargs)

    image = torch.from_numpy(np.ascontiguousarray(pixels, np.float32))[None]
    with torch.no_grad(), Listen():
        module(image)
    tokens = {share.shape for share in found}
    if len(tokens) != 1 or found[0].shape[0] != 1 or found[0].shape[2] != found[0].shape[3]:
        what = "no attention" if not found else "no attention over the whole image in every block"
        raise DataError(
            f"The model has {what}, so there is none to roll out.",
            "Use --saliency occlusion or gradients, which every classifier has.",
        )
    return [share[0].mean(dim=0).numpy() for share in found]


def _shares(call: Mapping[str, Any]) -> torch.Tensor:
    """(rows, heads, tokens, tokens): the shares that a call with these arguments will use."""
    if call.get("is_causal"):
        raise AssertionError("vision transformers look both ways")
    query, key, scale = call["query"].double(), call["key"].double(), call.get("scale")
    scale = 1.0 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale
    if call.get("attn_mask") is not None:
        scores = scores + call["attn_mask"]
    shares: torch.Tensor = scores.softmax(dim=-1)
    return shares


def rollout(layers: Sequence[np.ndarray]) -> np.ndarray:
    """Attention that has come from each token to each token.

    Args:
        layers: (tokens, tokens) of each block, rows add up to 1.

    Returns:
        (tokens, tokens), rows add up to 1.
    """
    identity = np.eye(len(layers[0]))
    result: np.ndarray = identity
    for layer in layers:
        result = (0.5 * layer + 0.5 * identity) @ result
    return result


def attention_map(layers: Sequence[np.ndarray], shape: tuple[int, int]) -> np.ndarray:
    """What the class token has taken from each patch.

    Args:
        layers: as from `attentions`.
        shape: (H, W) of the image.

    Returns:
        (H, W) float64: each patch's share as a multiple of an even share among patches.

    Raises:
        DataError: the tokens are no class token with a square grid of patches.
    """
    tokens = len(layers[0])
    side = math.isqrt(tokens)
    while side > 1 and (shape[0] % side or shape[1] % side):
        side -= 1
    prefix = tokens - side * side
    if shape[0] != shape[1] or not 1 <= prefix <= MOST_PREFIX:
        raise DataError(
            f"{tokens} tokens of an image of {shape[0]} x {shape[1]} pixels are no class token "
            "before a square grid of patches.",
            "Use --saliency occlusion or gradients.",
        )
    shares = rollout(layers)[0, prefix:].reshape(side, side)
    shares = shares / shares.mean()
    patch = np.ones((shape[0] // side, shape[1] // side))
    result: np.ndarray = np.kron(shares, patch)
    return result
