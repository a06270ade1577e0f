"""The backbone inside a larger model's state dict: found by its first convolution's name.

A network that was trained with heads, decoders or a student beside it is saved as one flat dict:
`backbone.patch_embed.proj.weight`, `head.mlp.0.weight`, `criterion.centre`. A ResNet or DenseNet
whose layers were put into `nn.Sequential`, as RadImageNet's, has numbers for their names.
Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from dinorad_rt.backbones.keys import PREFERRED, Tensors, has_tower
from dinorad_rt.errors import WeightsError

_FEWEST = 4
"""Of several places that fit equally, each holds a backbone if a quarter of its tensors is there;
with fewer, one name is the same by chance."""

_NUMBERED = (
    (
        ("0.weight", "1.running_mean", "4.0.conv1.weight", "7.0.conv1.weight"),
        {"0": "conv1", "1": "bn1", **{str(4 + stage): f"layer{1 + stage}" for stage in range(4)}},
    ),
    (("0.conv0.weight", "0.norm0.running_mean", "0.norm5.running_mean"), {"0": "features"}),
)
"""Keys that tell torchvision's ResNet and DenseNet by numbers → names of their children."""


def backbone_of(
    tensors: Tensors, wanted: Mapping[str, torch.Tensor], file: str
) -> tuple[Tensors, tuple[str, ...]]:
    """The tensors below the prefix that holds the backbone, and what to say.

    Args:
        tensors: flat state dict; wrappers that all keys share are already gone.
        wanted: state dict of the architecture.
        file: name of the file for messages.

    Raises:
        WeightsError: several backbones of this architecture, and none is the teacher.
    """
    first = next((key for key, value in wanted.items() if value.ndim == 4), None)
    if first is None or first in tensors or has_tower(tensors):
        return tensors, ()
    prefixes = {key.removesuffix(first) for key in tensors if key.endswith(f".{first}")}
    fits = {one: sum(f"{one}{key}" in tensors for key in wanted) for one in sorted(prefixes)}
    best = [one for one, count in fits.items() if count == max(fits.values())]
    preferred = [one for one in best if any(word in one for word in PREFERRED)]
    if len(best) > 1 and len(preferred) != 1:
        if fits[best[0]] * _FEWEST < len(wanted):
            return tensors, ()
        raise WeightsError(
            f"{file} holds {len(best)} backbones of this architecture, under the keys "
            f"{', '.join(f'{one}*' for one in best)}.",
            "Save the one that is meant alone, its keys without that prefix.",
        )
    if not best:
        return tensors, ()
    prefix = (preferred or best)[0]
    inside = {key[len(prefix) :]: tensors[key] for key in tensors if key.startswith(prefix)}
    return inside, (_said(tensors, prefix, len(tensors) - len(inside)),)


def name_children(tensors: Tensors) -> Tensors:
    """A state dict whose numbered ResNet or DenseNet, if it holds one, has torchvision's names."""
    for marks, names in _NUMBERED:
        for prefix in [key.removesuffix(marks[-1]) for key in tensors if key.endswith(marks[-1])]:
            if all(f"{prefix}{mark}" in tensors for mark in marks):
                return {_named(key, prefix, names): value for key, value in tensors.items()}
    return tensors


def _named(key: str, prefix: str, names: Mapping[str, str]) -> str:
    number, _, rest = key.removeprefix(prefix).partition(".")
    inside = key.startswith(prefix) and number in names
    return f"{prefix}{names[number]}.{rest}" if inside else key


def _said(tensors: Tensors, prefix: str, others: int) -> str:
    roots = sorted({key.split(".")[0] for key in tensors if not key.startswith(prefix)})
    beside = f"; left out: {others} tensors of {', '.join(roots)}" if others else ""
    return f"taken from the keys {prefix}*{beside}"
