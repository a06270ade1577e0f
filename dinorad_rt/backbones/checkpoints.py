"""Checkpoint files: read without running code, fitted to one architecture, refused if incomplete.

Imported late: it needs torch.
"""

from __future__ import annotations

import argparse
import pickle
import re
import sys
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dinorad_rt.backbones.adapt import adapt
from dinorad_rt.backbones.keys import Renamed, Tensors, rename
from dinorad_rt.backbones.mismatch import mismatch_error
from dinorad_rt.backbones.spec import BackboneSpec, PositionRule
from dinorad_rt.backbones.subtree import backbone_of
from dinorad_rt.errors import WeightsError

WRAPPERS = (
    "teacher target_encoder state_dict_ema model_ema ema state_dict model module student encoder"
).split()
"""Entries of a training checkpoint that hold the weights, the best first."""

PREFIXES = ("module.", "_orig_mod.", "backbone.", "timm_model.", "model.")

FILE_NAMES = (
    *("model.safetensors", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "open_clip_pytorch_model.bin"),
)
"""Names of a single-file checkpoint in a repository or folder, in order of preference."""

LEFT_OUT = (
    ("classifier head", ("head.", "head_dist.", "fc.", "classifier.", "last_linear.")),
    ("neck", ("neck.",)),
)
"""Parts that a file may hold and a backbone has no place for."""

_PLAIN_TYPES: list[Any] = [
    argparse.Namespace,
    np.dtype,
    *(type(np.dtype(name)) for name in ("float64", "float32", "int64", "int32", "bool")),
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]
"""What training scripts store beside tensors and what holds plain values: arguments, a score."""

_SAVE_HINT = (
    "Save the weights alone, torch.save(model.state_dict(), PATH), or as safetensors, and give "
    "that file to --weights."
)


@dataclass(frozen=True)
class Checkpoint:
    """A file's flat tensors, what was unwrapped, and its own words about its licence."""

    tensors: Tensors
    notes: tuple[str, ...] = ()
    licence: str | None = None


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file at `path`, or the single one in that folder.

    Raises:
        WeightsError: nothing is there.
    """
    if path.is_file():
        return path
    if path.is_dir():
        for name in FILE_NAMES:
            if (path / name).is_file():
                return path / name
        raise WeightsError(
            f"The folder {path} holds none of {', '.join(FILE_NAMES)}.",
            "Give the checkpoint file itself: --weights PATH/FILE",
        )
    raise WeightsError(
        f"No weights at {path}: no such file, and it is none of the words hub, auto, random.",
        "Check the path, or use --weights hub, --weights auto or --weights random.",
    )


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a safetensors or PyTorch file; the content decides, not the suffix.

    Raises:
        WeightsError: neither format, damaged, or it holds more than tensors and plain values.
    """
    with path.open("rb") as handle:
        head = handle.read(9)
    if len(head) == 9 and head[8:9] == b"{":
        return _read_safetensors(path)
    content = _read_torch(path)
    notes: list[str] = []
    tensors = _strip_prefixes(_unwrap(content, path, notes), notes)
    return Checkpoint(tensors, tuple(notes))


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
        WeightsError: a tensor holds NaN or infinity.
    """
    wanted = module.state_dict()
    tensors, taken = backbone_of(checkpoint.tensors, wanted, file)
    renamed = rename(tensors)
    changes = _settle(renamed, module, spec.position)
    error = mismatch_error(renamed.tensors, wanted, spec, file, renamed.dialect)
    if error is not None:
        filtered = _timm_filtered(module, tensors, spec)
        if filtered is None:
            raise error
        renamed = filtered
        changes = _settle(renamed, module, spec.position)
        if mismatch_error(renamed.tensors, wanted, spec, file, renamed.dialect) is not None:
            raise error
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

    It resamples positions by timm's rule, so it may not stand in for another one.
    """
    convert = getattr(sys.modules.get(type(module).__module__), "checkpoint_filter_fn", None)
    if convert is None or spec.position == "hub":
        return None
    try:
        return Renamed("the publisher's, by timm's converter", dict(convert(dict(tensors), module)))
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError):
        return None  # not a file that timm knows: the caller reports what does not fit


def _own_copies(tensors: Tensors, wanted: Mapping[str, torch.Tensor], file: str) -> list[str]:
    """Float32 tensors of our own, not views of the file, checked for finiteness."""
    kinds: set[str] = set()
    for key, value in tensors.items():
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise WeightsError(
                f"The tensor {key} in {file} holds NaN or infinity: these weights are damaged.",
                "Download the file again, or choose another checkpoint of the training run.",
            )
        if value.is_floating_point() and value.dtype != torch.float32:
            kinds.add(str(value.dtype).removeprefix("torch."))
        tensors[key] = value.to(wanted[key].dtype, copy=True).contiguous()
    return [f"converted from {kind} to float32" for kind in sorted(kinds)]


def _read_safetensors(path: Path) -> Checkpoint:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise _damaged(path, "safetensors", str(error)) from error
    notes: list[str] = []
    licence = metadata.get("license") or metadata.get("licence")
    return Checkpoint(_strip_prefixes(tensors, notes), tuple(notes), licence)


def _read_torch(path: Path) -> Any:
    with path.open("rb") as handle:
        head = handle.read(64)
    _refuse_other_formats(path, head)
    try:
        with torch.serialization.safe_globals(_PLAIN_TYPES), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            zipped = head.startswith(b"PK")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL:? (\S+)", str(error))
        if foreign is None:
            raise _damaged(path, "PyTorch", "its content is no pickle of tensors") from error
        raise WeightsError(
            f"{path.name} holds Python objects beside tensors ({foreign[1]}). Loading those would "
            "run code from the file, so it was not loaded.",
            _SAVE_HINT,
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        if "TorchScript" in str(error):
            raise _torchscript(path) from error
        raise _damaged(path, "PyTorch", str(error)) from error


def _refuse_other_formats(path: Path, head: bytes) -> None:
    """Files that people give for a checkpoint and that say themselves what they are."""
    if head.startswith(b"version https://git-lfs"):
        raise WeightsError(
            f"{path.name} is no checkpoint, but what Git LFS stores in its place.",
            "Fetch the file itself: git lfs pull",
        )
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise WeightsError(
            f"{path.name} is a web page, no checkpoint.", "Download the file itself, not its page."
        )
    if head.startswith(b"PK") and _is_numpy_archive(path):
        raise WeightsError(
            f"{path.name} is a NumPy archive (the form of the JAX releases of ViT and BiT), which "
            "is not read.",
            "Load it with timm and save what came of it: timm.create_model(NAME, "
            "checkpoint_path=FILE), then torch.save(model.state_dict(), PATH) for --weights.",
        )


def _is_numpy_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False
    return bool(names) and all(name.endswith(".npy") for name in names)


def _torchscript(path: Path) -> WeightsError:
    return WeightsError(
        f"{path.name} is a TorchScript archive (the form of OpenAI's CLIP): code and weights in "
        "one. Only tensors are read, so it was not loaded.",
        "If you trust it, save its weights alone, torch.save(torch.jit.load(FILE, "
        "map_location='cpu').state_dict(), PATH), and give that file to --weights.",
    )


def _damaged(path: Path, kind: str, reason: str) -> WeightsError:
    first = reason.strip().splitlines()[0][:200] if reason.strip() else "no reason given"
    return WeightsError(
        f"{path} cannot be read as a {kind} checkpoint: {first}. It is cut short, or of another "
        "format; safetensors and PyTorch files are read.",
        "Download the file again and compare its size with the publisher's.",
    )


def _unwrap(content: Any, path: Path, notes: list[str]) -> Tensors:
    """Walk into the entry of a training checkpoint that holds the weights."""
    while isinstance(content, Mapping):
        inner = [key for key in WRAPPERS if isinstance(content.get(key), Mapping)]
        if not inner:
            tensors = {str(key): value for key, value in content.items() if torch.is_tensor(value)}
            if tensors:
                return tensors
            break
        others = f" (not {', '.join(inner[1:])})" if inner[1:] else ""
        notes.append(f"taken from the entry {inner[0]!r}{others}")
        content = content[inner[0]]
    raise WeightsError(f"{path.name} holds no state dict of tensors.", _SAVE_HINT)


def _strip_prefixes(tensors: Tensors, notes: list[str]) -> Tensors:
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
