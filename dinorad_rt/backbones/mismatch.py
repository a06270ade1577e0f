"""The message for weights that do not fit: which tensors, and which model they look like.

Imported late: it needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from dinorad_rt.backbones.registry import list_specs
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import CheckpointMismatchError
from dinorad_rt.words import count_of

LINES = 40
"""Most lines of one list; blocks are condensed, so a whole ViT-g fits."""

FEW = 8
"""Names of a file of which nothing fits."""

COUNTER = ".num_batches_tracked"
"""What no inference needs and old files lack: it is filled in, and says nothing of a file."""


MERGE = (
    "Merge them where they were trained, merge_and_unload() of peft, and save the merged state "
    "dict."
)


_OF_VOLUMES = (
    "Backbones here take slices. Of volumes, networks trained here are read (dinorad-rt train "
    "--model segresnet); look for a 2-D encoder: dinorad-rt list models"
)


def mismatch_error(
    given: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    spec: BackboneSpec,
    file: str,
    dialect: str,
) -> CheckpointMismatchError | None:
    """The error that names every tensor that does not fit, or None if all fit."""
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    shapes = {
        key: f"file {_shape(given[key])}, needed {_shape(wanted[key])}"
        for key in wanted
        if key in given and given[key].shape != wanted[key].shape
    }
    if not (missing or unknown or shapes):
        return None
    head = (
        f"The weights in {file} ({dialect} key names) do not fit {spec.name} ({spec.title}, "
        f"{len(wanted)} tensors). Nothing was loaded."
    )
    own = [key for key in given if not key.endswith(COUNTER)]
    volumes = any(value.ndim == 5 for value in given.values())
    if volumes and not any(value.ndim == 5 for value in wanted.values()):
        return CheckpointMismatchError(f"{head} They are of a 3-D network.", _OF_VOLUMES)
    if not any(key in wanted for key in own):
        head += f" Not one of its {len(own)} tensors has a name of this architecture."
        names = f"\nIn the file: {', '.join(condense(own)[:FEW])} ..." if own else ""
        return CheckpointMismatchError(head + names, _of_no_use([given[key] for key in own], own))
    parts = [head]
    parts += _section("Missing in the file", dict.fromkeys(missing, ""))
    parts += _section("Unknown to this architecture", dict.fromkeys(unknown, ""))
    parts += _section("Of another shape", shapes)
    return CheckpointMismatchError("\n".join(parts), _advice(given, wanted, shapes, spec))


def _section(title: str, entries: Mapping[str, str]) -> list[str]:
    if not entries:
        return []
    groups: dict[str, list[str]] = {}
    for key, text in entries.items():
        groups.setdefault(text, []).append(key)
    lines = [
        f"  {name}" + (f": {text}" if text else "")
        for text, keys in groups.items()
        for name in condense(keys)
    ]
    if len(lines) > LINES:
        lines = [*lines[:LINES], f"  ... and {len(lines) - LINES} lines more"]
    return [f"{title} ({len(entries)} tensors):", *lines]


def condense(keys: Iterable[str]) -> list[str]:
    """Join keys that differ in their block number: `blocks.{0-5,7}.norm1.weight`."""
    numbers: dict[tuple[str, str], list[int]] = {}
    plain: list[str] = []
    for key in keys:
        found = re.match(r"(.*?\.)(\d+)(\..*)$", key)
        if found:
            numbers.setdefault((found[1], found[3]), []).append(int(found[2]))
        else:
            plain.append(key)
    joined = [f"{start}{_ranges(found)}{end}" for (start, end), found in numbers.items()]
    return plain + joined


def _ranges(numbers: list[int]) -> str:
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return texts[0] if len(numbers) == 1 else "{" + ",".join(texts) + "}"


def _shape(tensor: torch.Tensor) -> str:
    return "x".join(str(side) for side in tensor.shape) or "scalar"


def _of_no_use(tensors: list[torch.Tensor], names: list[str]) -> str:
    """The way out where no name fits: an adapter, a head, or another library's names."""
    if any(".lora_" in name for name in names):
        return f"These are adapters of LoRA, without the backbone below them. {MERGE}"
    if all(value.ndim < 3 for value in tensors) and len(tensors) < FEW:
        return "This is a head alone. Give the file that holds the backbone, too."
    return (
        "Give --model the architecture of this file (dinorad-rt list models). If it is that one "
        "already, the file has the names of another library: look for the weights of timm, of "
        "torchvision or of the publisher."
    )


def _advice(
    given: Mapping[str, torch.Tensor],
    wanted: Mapping[str, torch.Tensor],
    shapes: Mapping[str, str],
    spec: BackboneSpec,
) -> str:
    missing = [key for key in wanted if key not in given]
    unknown = [key for key in given if key not in wanted]
    if any(".base_layer." in key for key in unknown):
        return f"These are weights with adapters that are not merged into them. {MERGE}"
    channels = next((given[key].shape[1] for key in shapes if given[key].ndim == 4), 0)
    if len(shapes) == 1 and channels and channels != 3:
        return (
            f"Its first layer takes {count_of(channels, 'channel')}, and images have 3 here. "
            "Weights of other inputs are not converted: look for the publisher's weights of 3 "
            "channels."
        )
    if missing and not unknown and all(key.startswith("attn_pool.") for key in missing):
        return (
            "These weights have no attention-pooling head, like the encoders of PaliGemma and "
            "MedGemma: give --model one that takes the mean of its patches, such as "
            "vit_so400m_patch14_siglip_gap_448."
        )
    if set(missing) == {"norm.weight", "norm.bias"} and "fc_norm.weight" in given:
        return (
            "This classifier was fine-tuned on the mean of its patches and has no norm for the "
            "class token. Give the weights that it was fine-tuned from, before the fine-tuning."
        )
    if _basics(given) != _basics(wanted) and (seen := _looks_like(given)):
        return f"By its shapes the file could be: {', '.join(seen)}. Try --model {seen[0]}"
    if missing and not unknown and not shapes:
        return (
            f"The file is an incomplete checkpoint of {spec.name}: download it again, or save all "
            "of the backbone's state dict."
        )
    return "Give --model the architecture of this file; see all: dinorad-rt list models"


_MARKS = {"attn_pool.latent": "siglip", "reg_token": "registers", "cls_token": "class token"}
"""Tensor → the kind of transformer that has it, the most telling first."""


def _looks_like(given: Mapping[str, torch.Tensor]) -> list[str]:
    """Short names whose width, patch side and kind are those of the file."""
    basics = _basics(given)
    return [
        spec.name
        for spec in list_specs()
        if spec.family in ("vit", "eva", "siglip")
        and (spec.dim, spec.patch, _kind_of(spec)) == basics
    ]


def _kind_of(spec: BackboneSpec) -> str:
    if spec.family == "siglip":
        return "siglip"
    return "registers" if "_reg" in spec.name or spec.family == "eva" else "class token"


def _basics(tensors: Mapping[str, torch.Tensor]) -> tuple[int, int, str] | None:
    """Width, patch side and kind; None for what is no transformer with patches."""
    patch = tensors.get("patch_embed.proj.weight")
    kind = next((kind for mark, kind in _MARKS.items() if mark in tensors), None)
    if patch is None or kind is None or patch.ndim != 4:
        return None
    return patch.shape[0], patch.shape[-1], kind
