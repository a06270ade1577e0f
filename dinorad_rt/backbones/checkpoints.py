"""Checkpoint files: read without running code, fitted to one architecture, refused if incomplete.

Imported late: it needs torch.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import numpy as np
import torch

from dinorad_rt.backbones.adapt import adapt
from dinorad_rt.backbones.catalogue import MOCO_V3_HEADS
from dinorad_rt.backbones.declared import check_heads
from dinorad_rt.backbones.foreign import foreign_error
from dinorad_rt.backbones.keys import Renamed, Tensors, rename
from dinorad_rt.backbones.locate import WeightsFiles
from dinorad_rt.backbones.mismatch import condense, mismatch_error
from dinorad_rt.backbones.spec import BackboneSpec, PositionRule
from dinorad_rt.backbones.subtree import backbone_of, name_children
from dinorad_rt.backbones.wrappers import strip_prefixes, unwrap
from dinorad_rt.errors import WeightsError

LEFT_OUT = (
    ("classifier head", ("head.", "head_dist.", "fc.", "classifier.", "last_linear.")),
    ("neck", ("neck.",)),
    ("training head", ("projection_head.", "projector.", "omni_heads.", "prototypes.")),
)
"""Parts that a file may hold and a backbone has no place for."""

_PLAIN_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in "float64 float32 int64 int32 uint8 bool".split()),
    np.ndarray,
    (np.zeros(0).__reduce__()[0], "numpy.core.multiarray._reconstruct"),
    (np.zeros(0).__reduce__()[0], "numpy._core.multiarray._reconstruct"),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
    (PurePosixPath, "pathlib.PosixPath"),
    (PurePosixPath, "pathlib._local.PosixPath"),
    (PureWindowsPath, "pathlib.WindowsPath"),
    (PureWindowsPath, "pathlib._local.WindowsPath"),
]
"""What training scripts store beside tensors and what holds plain values: arguments, scores."""

_PATCHES = "patch_embed.proj.weight"

_NUMBERS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
"""What weights may be stored in; all else is rounded with scales that stand elsewhere."""

_TRUST_HINT = (
    "If you trust it, load it once where its code is installed, by torch.load with "
    "weights_only=False, save what holds the weights alone, torch.save(model.state_dict(), PATH), "
    "and give that file to --weights."
)


@dataclass(frozen=True)
class Checkpoint:
    """A file's flat tensors, what was unwrapped, and its own words about its licence."""

    tensors: Tensors
    notes: tuple[str, ...] = ()
    licence: str | None = None


def read_checkpoint(weights: WeightsFiles) -> Checkpoint:
    """Read safetensors or PyTorch files; the content decides, not the suffix.

    Tensors stay on disk, mapped into memory, until they are used, except those of PyTorch's old
    format; shards are merged.

    Raises:
        WeightsError: neither format, damaged, it holds more than tensors and plain values, a
            tensor without numbers of its own, or shards that do not hold what their index says.
    """
    notes: list[str] = []
    read = {path.name: _read_file(path, notes) for path in weights.files}
    licence = next((stated for _, stated in read.values() if stated), None)
    if weights.weight_map:
        tensors = _merged(weights, {name: found for name, (found, _) in read.items()}, notes)
    else:
        tensors = read[weights.name][0]
    _check_form(tensors, weights.name)
    tensors = strip_prefixes(tensors, notes)
    return Checkpoint(tensors, tuple(dict.fromkeys(notes)), licence)


def fit_checkpoint(
    module: torch.nn.Module, checkpoint: Checkpoint, spec: BackboneSpec, file: str
) -> tuple[str, ...]:
    """Load a checkpoint into a module, all of it or not at all.

    Args:
        module: the architecture at the wanted input size; may be on the meta device.
        checkpoint: from `read_checkpoint`; its tensors are consumed.
        spec: gives the position rule and the names in messages.
        file: name of the file for messages.

    Returns:
        Notes: key names, what was left out, what was converted.

    Raises:
        CheckpointMismatchError: missing, unknown or misshapen tensors, each named.
        WeightsError: a tensor holds NaN or infinity, or rounded numbers without their scale.
    """
    wanted = module.state_dict()
    tensors, taken = backbone_of(name_children(checkpoint.tensors), wanted, file)
    renamed = rename(tensors)
    changes = _settle(renamed, module, spec.position)
    error = mismatch_error(renamed.tensors, wanted, spec, file, renamed.dialect)
    if error is not None:
        filtered = _timm_filtered(module, tensors, spec)
        if filtered is None:
            raise error
        renamed = filtered
        changes = [*_resized(tensors, renamed.tensors), *_settle(renamed, module, spec.position)]
        if mismatch_error(renamed.tensors, wanted, spec, file, renamed.dialect) is not None:
            raise error
    if any("base_encoder." in key for key in checkpoint.tensors):
        check_heads(module, MOCO_V3_HEADS, f"{file} is a checkpoint of MoCo v3 with", spec)
    checkpoint.tensors.clear()
    left_out = [f"left out: {part} ({count})" for part, count in renamed.left_out.items()]
    conversions = _own_copies(renamed.tensors, wanted, file)
    module.load_state_dict(renamed.tensors, strict=True, assign=True)
    dialect = f"key names: {renamed.dialect}"
    return (*checkpoint.notes, *taken, dialect, *changes, *left_out, *conversions)


def _settle(renamed: Renamed, module: torch.nn.Module, rule: PositionRule) -> list[str]:
    """Adapt the values, then leave out the parts that no backbone has a place for."""
    changes = adapt(renamed.tensors, module, rule)
    wanted = module.state_dict()
    for part, prefixes in LEFT_OUT:
        extra = [key for key in renamed.tensors if key.startswith(prefixes) and key not in wanted]
        for key in extra:
            del renamed.tensors[key]
        if extra:
            renamed.left_out[part] = len(extra)
    return changes


def _timm_filtered(module: torch.nn.Module, tensors: Tensors, spec: BackboneSpec) -> Renamed | None:
    """The tensors through timm's own converter of this architecture, where it has one.

    It resamples positions by timm's rule, so it may not stand in for another one, and patches of
    another side, with which no weights were trained: those are left to the caller to report.
    """
    convert = getattr(sys.modules.get(type(module).__module__), "checkpoint_filter_fn", None)
    if convert is None or spec.position == "hub" or _other_patch(module, tensors):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # timm's own
            converted = dict(convert(dict(tensors), module))
        return Renamed("the publisher's, by timm's converter", converted)
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None  # not a file that timm knows: the caller reports what does not fit


def _resized(before: Tensors, after: Tensors) -> list[str]:
    """A note on what timm's converter resampled, such as the tables of relative positions."""
    changed = [key for key in before if key in after and after[key].numel() != before[key].numel()]
    return [f"resampled by timm: {', '.join(condense(changed))}"] if changed else []


def _other_patch(module: torch.nn.Module, tensors: Tensors) -> bool:
    own = module.state_dict().get(_PATCHES)
    given = (value for key, value in tensors.items() if key.endswith(_PATCHES))
    return own is not None and any(
        value.ndim == own.ndim and value.shape[2:] != own.shape[2:] for value in given
    )


def _own_copies(tensors: Tensors, wanted: Mapping[str, torch.Tensor], file: str) -> list[str]:
    """Float32 tensors of our own, not views of the file, checked for finiteness."""
    kinds: set[str] = set()
    for key, value in tensors.items():
        if wanted[key].is_floating_point() and value.dtype not in _NUMBERS:
            raise _unreadable_form(key, str(value.dtype).removeprefix("torch."), file)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"The tensor {key} in {file} holds NaN or infinity: these weights are damaged.",
                "Download the file again, or choose another checkpoint of the training run.",
            )
        if value.is_floating_point() and value.dtype != torch.float32:
            kinds.add(str(value.dtype).removeprefix("torch."))
        tensors[key] = value.to(wanted[key].dtype, copy=True).contiguous()
    return [f"converted from {kind} to float32" for kind in sorted(kinds)]


def _check_form(tensors: Tensors, file: str) -> None:
    """Refuse tensors that cannot be computed with: quantised, sparse, or names without numbers."""
    for key, value in tensors.items():
        if value.is_quantized:
            raise _unreadable_form(key, f"quantised ({value.dtype})", file)
        if value.layout != torch.strided or value.is_meta:
            raise _unreadable_form(key, "sparse" if not value.is_meta else "empty (meta)", file)
        rounded = value.dtype in (torch.int8, torch.uint8) and key.endswith("weight")
        if rounded or (value.is_floating_point() and value.dtype not in _NUMBERS):
            raise _unreadable_form(key, str(value.dtype).removeprefix("torch."), file)


def _unreadable_form(key: str, form: str, file: str) -> WeightsError:
    return WeightsError(
        f"The tensor {key} in {file} is {form}. Weights are read as float32, float16, bfloat16 or "
        "float64; rounded ones need scales that no backbone here has.",
        "Give the weights that it was made from; dinorad-rt rounds them itself (--precision).",
    )


def _read_file(path: Path, notes: list[str]) -> tuple[Tensors, str | None]:
    """The tensors of one file under its own names, and what it says of its licence."""
    with path.open("rb") as handle:
        head = handle.read(9)
    if len(head) == 9 and head[8:9] == b"{":
        return _read_safetensors(path)
    return unwrap(_read_torch(path), path, notes), None


def _merged(weights: WeightsFiles, read: Mapping[str, Tensors], notes: list[str]) -> Tensors:
    """The tensors of all shards, each from the shard that the index names."""
    lost = [key for key, name in weights.weight_map.items() if key not in read[name]]
    if lost:
        raise WeightsError(
            f"{weights.name} promises {len(weights.weight_map)} tensors, of which {len(lost)} are "
            f"not in their shards: {', '.join(condense(lost)[:10])}. Index and shards are not of "
            "one checkpoint, or a shard was cut short.",
            "Download all files of the model again, from one revision, into an empty folder.",
        )
    notes.append(f"read from {len(read)} shards")
    extra = sum(len(tensors) for tensors in read.values()) - len(weights.weight_map)
    if extra:
        notes.append(f"left out: tensors that the index does not name ({extra})")
    return {key: read[name][key] for key, name in weights.weight_map.items()}


def _read_safetensors(path: Path) -> tuple[Tensors, str | None]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, "safetensors", str(error)) from error
    return tensors, metadata.get("license") or metadata.get("licence")


def _read_torch(path: Path) -> Any:
    foreign = foreign_error(path)
    if foreign is not None:
        raise foreign
    with path.open("rb") as handle:
        zipped = handle.read(2) == b"PK"
    try:
        with torch.serialization.safe_globals(_PLAIN_TYPES), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        alien = re.search(r"GLOBAL:? (\S+)", str(error))
        if alien is None:
            raise _damaged(path, "PyTorch", "its content is no pickle of tensors") from error
        raise WeightsError(
            f"{path.name} holds Python objects beside tensors ({alien[1]}). Loading those would "
            "run code from the file, so it was not loaded.",
            _TRUST_HINT,
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise _damaged(path, "PyTorch", str(error)) from error
    except Exception as error:  # a damaged pickle ends in errors of every kind
        raise _damaged(path, "PyTorch", "its content is no pickle of tensors") from error


def _damaged(path: Path, kind: str, reason: str) -> WeightsError:
    if path.stat().st_size == 0:
        reason = "it is empty"
    first = reason.strip().splitlines()[0][:200] if reason.strip() else "no reason given"
    return WeightsError(
        f"{path} cannot be read as a {kind} checkpoint: {first}. It is cut short, or of another "
        "format; safetensors and PyTorch files are read.",
        "Download the file again and compare its size with the publisher's.",
    )
