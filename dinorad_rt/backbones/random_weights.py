"""Random weights under which every part of a network shows in its output.

The usual initialisation hides most of a network: LayerScale at 1e-5 and zero-initialised batch
norms switch the blocks off, zero biases and tokens make mix-ups invisible. A parity check on such
weights proves nothing. Here each tensor gets a size like a trained one's, and activations keep
theirs through all blocks. Imported late: it needs torch.
"""

from __future__ import annotations

import math

import torch

TOKENS = ("cls_token", "reg_token", "dist_token", "pos_embed", "latent")


def fill_random(module: torch.nn.Module, seed: int, *, convolutional: bool) -> None:
    """Fill every parameter of a module from `seed`, on the CPU, independent of timm's version.

    Buffers (batch-norm statistics) stay at mean 0 and variance 1.

    Args:
        module: filled in place.
        seed: of the generator.
        convolutional: scale for rectifiers behind every layer, as convolutional networks have.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = _norm_weights(module)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            mean, std = _moments(name, parameter, norms, convolutional)
            parameter.normal_(mean, std, generator=generator)


def _norm_weights(module: torch.nn.Module) -> set[str]:
    """Names of the weights of normalisation layers."""
    return {
        f"{name}.weight"
        for name, part in module.named_modules()
        if "Norm" in type(part).__name__ and getattr(part, "weight", None) is not None
    }


def _moments(
    name: str, parameter: torch.Tensor, norms: set[str], convolutional: bool
) -> tuple[float, float]:
    """Mean and standard deviation of one parameter."""
    last = name.rsplit(".", 1)[-1]
    if name in norms:
        return (0.7 if convolutional else 1.0), 0.1
    if last in TOKENS:
        return 0.0, 0.5
    if "rel_pos" in last or parameter.ndim < 2:
        return (0.5, 0.1) if last.startswith("gamma") else (0.0, 0.02)
    gain = 2.0 if convolutional else 1.0
    fan_in = parameter[0].numel()
    return 0.0, math.sqrt(gain / fan_in)
