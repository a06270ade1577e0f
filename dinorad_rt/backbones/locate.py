"""Where weights lie: one file, or the shards that an index names. No torch here.

Hugging Face cuts large checkpoints into shards, `model-00001-of-00002.safetensors`, and lists in
`model.safetensors.index.json` which tensor lies in which of them; `.bin` shards likewise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dinorad_rt.backbones.foreign import foreign_error, foreign_folder_error
from dinorad_rt.errors import WeightsError
from dinorad_rt.files import read_json, sha256_file, sha256_json

NAMED_WEIGHTS = ("hub", "auto", "random")
"""Weights that are told by a word; all else is a path."""

FILE_NAMES = (
    *("model.safetensors", "open_clip_model.safetensors"),
    *("pytorch_model.bin", "open_clip_pytorch_model.bin"),
)
"""Names of a single-file checkpoint in a repository or folder, in order of preference."""

INDEX_SUFFIX = ".index.json"
INDEX_NAMES = tuple(f"{name}{INDEX_SUFFIX}" for name in FILE_NAMES)
"""Names of the index of a checkpoint in shards, in the same order."""

ADAPTER_NAMES = ("adapter_model.safetensors", "adapter_model.bin")
"""What peft saves."""

_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_SUFFIXES = frozenset(
    ".safetensors .pth .pt .bin .ckpt .tar .pkl .npz .pt2 .onnx .engine .plan .h5 .hdf5 .keras "
    ".msgpack .gguf".split()
)
_LISTED = 10


@dataclass(frozen=True)
class WeightsFiles:
    """The files of one checkpoint.

    Attributes:
        name: of the file or of the index, for messages and provenance.
        files: the checkpoint file, or every shard in order of names.
        weight_map: name of a tensor → name of its shard; empty for a single file.
    """

    name: str
    files: tuple[Path, ...]
    weight_map: Mapping[str, str] = field(default_factory=dict)

    def sha256(self) -> str:
        """Hex SHA-256 of the file; of the shards' names and hashes where there is an index."""
        if not self.weight_map:
            return sha256_file(self.files[0])
        return sha256_json({path.name: sha256_file(path) for path in self.files})


def find_weights(path: Path) -> WeightsFiles:
    """The checkpoint at `path`: a file, an index, or the folder of either.

    Raises:
        WeightsError: nothing is there, a shard is missing, or it is one shard of several.
    """
    if path.is_dir():
        return _in_folder(path)
    if not path.is_file():
        raise WeightsError(
            f"No weights at {path}: no such file, and it is none of the words "
            f"{', '.join(NAMED_WEIGHTS)}.",
            "Check the path, or use --weights hub, --weights auto or --weights random.",
        )
    if path.name.endswith(INDEX_SUFFIX):
        return _sharded(path)
    shard = _SHARD.fullmatch(path.name)
    if shard is not None and int(shard["count"]) > 1:
        raise _one_of_several(path, shard)
    return WeightsFiles(path.name, (path,))


def shard_names(index: Path) -> tuple[str, ...]:
    """The shards that an index names, in order.

    Raises:
        WeightsError: it is no index.
    """
    return tuple(sorted(set(_weight_map(index).values())))


def _in_folder(folder: Path) -> WeightsFiles:
    adapter = next((name for name in ADAPTER_NAMES if (folder / name).is_file()), None)
    if adapter is not None:
        raise _with_adapter(folder, adapter)
    for name in FILE_NAMES:
        if (folder / name).is_file():
            return WeightsFiles(name, (folder / name,))
        if (folder / f"{name}{INDEX_SUFFIX}").is_file():
            return _sharded(folder / f"{name}{INDEX_SUFFIX}")
    error = foreign_folder_error(folder)
    if error is not None:
        raise error
    others = sorted(one for one in folder.iterdir() if one.suffix.lower() in _SUFFIXES)
    shards = [match for one in others if (match := _SHARD.fullmatch(one.name))]
    if shards:
        raise _no_index(folder, shards[0])
    readable = [one for one in others if one.is_file() and foreign_error(one) is None]
    if readable:
        raise WeightsError(
            f"The folder {folder} holds none of {', '.join(FILE_NAMES)}, but "
            f"{_some([one.name for one in readable])}.",
            f"Give the checkpoint file itself: --weights {readable[0]}",
        )
    for one in others:
        if one.is_file() and (error := foreign_error(one)) is not None:
            raise error
    raise WeightsError(
        f"The folder {folder} holds no checkpoint: none of {', '.join(FILE_NAMES)}, nor an index "
        f"of shards ({INDEX_NAMES[0]}).",
        "Give the folder that the weights lie in, or the checkpoint file itself: --weights PATH",
    )


def _with_adapter(folder: Path, adapter: str) -> WeightsError:
    """Weights with an adapter beside them are not what was trained, and it alone is no backbone."""
    base = next((name for name in (*FILE_NAMES, *INDEX_NAMES) if (folder / name).is_file()), None)
    without = f" Without the adapter: --weights {folder / base}" if base else ""
    return WeightsError(
        f"The folder {folder} holds {adapter}, an adapter of peft, which is not merged into the "
        "weights that it was trained on.",
        "Merge it where it was trained, PeftModel.from_pretrained(BASE, FOLDER).merge_and_unload() "
        f"and save_pretrained(NEW), then --weights NEW.{without}",
    )


def _sharded(index: Path) -> WeightsFiles:
    """Every shard of an index, all of them there."""
    weight_map = _weight_map(index)
    names = sorted(set(weight_map.values()))
    missing = [name for name in names if not (index.parent / name).is_file()]
    if missing:
        raise WeightsError(
            f"{index.name} names {len(names)} shards, of which {len(missing)} are missing in "
            f"{index.parent}: {_some(missing)}.",
            "Download the missing files into that folder and run the same command again.",
        )
    return WeightsFiles(index.name, tuple(index.parent / name for name in names), weight_map)


def _weight_map(index: Path) -> dict[str, str]:
    """Name of a tensor → name of its shard; shards lie beside the index, nowhere else."""
    try:
        found = read_json(index).get("weight_map")
    except (ValueError, OSError) as error:
        raise _no_map(index, "it cannot be read as JSON") from error
    if not isinstance(found, dict) or not found:
        raise _no_map(index, "it holds no weight_map")
    for name in found.values():
        if not isinstance(name, str) or name in ("", ".", "..") or re.search(r"[/\\\0]", name):
            raise _no_map(index, f"it names {name!r}, which is no file beside it")
    return found


def _no_map(index: Path, reason: str) -> WeightsError:
    return WeightsError(
        f"{index.name} is no index of a checkpoint in shards: {reason}.",
        "Download it again; it says which tensor lies in which shard.",
    )


def _one_of_several(path: Path, shard: re.Match[str]) -> WeightsError:
    number, count = int(shard["number"]), int(shard["count"])
    index = f"{shard['stem']}{shard['suffix']}{INDEX_SUFFIX}"
    if (path.parent / index).is_file():
        fix = f"Give their folder: --weights {path.parent}"
    else:
        fix = f"Put all {count} shards and {index} into one folder and give it: --weights FOLDER"
    return WeightsError(
        f"{path.name} is shard {number} of {count}: it holds a part of the weights alone.", fix
    )


def _no_index(folder: Path, shard: re.Match[str]) -> WeightsError:
    index = f"{shard['stem']}{shard['suffix']}{INDEX_SUFFIX}"
    return WeightsError(
        f"The folder {folder} holds shards of a checkpoint ({shard[0]}), but not {index}, which "
        "says what lies in which.",
        f"Download {index} of the same model into it and run the same command again.",
    )


def _some(names: list[str]) -> str:
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")
