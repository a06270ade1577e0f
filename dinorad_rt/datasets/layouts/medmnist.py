"""MedMNIST: one .npz per set and size, unpacked once into the cache in blocks that can be mapped.

An archive is compressed as a whole: to read one image all before it must be unpacked, so the
images are written once into `.npy` files of at most BLOCK_BYTES, which the reader opens by frame.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO, Any

import numpy as np

from dinorad_rt.datasets.entry import Listing, Wishes
from dinorad_rt.datasets.facts import Progress
from dinorad_rt.datasets.labels import Labels
from dinorad_rt.datasets.layouts.common import need_folder
from dinorad_rt.datasets.record import Record
from dinorad_rt.errors import EmptyDataError, LabelError, UnreadableFileError
from dinorad_rt.files import atomic_folder, sha256_json
from dinorad_rt.paths import cache_dir
from dinorad_rt.types import SPLITS, Split, Task

SOURCE = "https://zenodo.org/records/10519652"
BLOCK_BYTES = 64 << 20
_DONE = "complete"
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    tokenize.TokenError,
    SyntaxError,
    ValueError,
    KeyError,
    EOFError,
    RuntimeError,
)
"""What zipfile and NumPy raise on damaged or encrypted archives."""
_MAX_LABELS = 1 << 28


@dataclass(frozen=True)
class MedMNIST:
    """One set, from medmnist.toml.

    Attributes:
        counts: images per split.
        md5: side in pixels → MD5 of the official file.
    """

    name: str
    title: str
    modality: str
    task: Task
    licence: str
    counts: dict[Split, int]
    classes: tuple[str, ...]
    md5: dict[int, str]


@lru_cache(maxsize=1)
def medmnist_sets() -> dict[str, MedMNIST]:
    """All sets by name."""
    import tomllib

    text = Path(__file__).with_name("medmnist.toml").read_text(encoding="utf-8")
    found = {}
    for name, values in tomllib.loads(text).items():
        values["classes"] = tuple(values["classes"])
        values["md5"] = {int(size): md5 for size, md5 in values["md5"].items()}
        found[name] = MedMNIST(name=name, **values)
    return found


def medmnist(root: Path, wishes: Wishes, *, info: MedMNIST, size: int) -> Listing:
    """NAME.npz or NAME_64.npz and so on, in the root or the root itself."""
    source = find_archive(root, info.name, size)
    shapes, labels = _heads(source)
    folder = _unpacked(source, shapes, wishes.progress)
    records: list[Record] = []
    for split in SPLITS:
        if split in shapes:
            rows = _rows(labels[split], info, shapes[split][0])
            records += _records(folder, split, shapes[split], rows)
    counts = {split: shapes[split][0] for split in SPLITS if split in shapes}
    notes = ["MedMNIST names no patients: each image counts as one"]
    if counts != info.counts:
        listed = ", ".join(f"{split} {count:,}" for split, count in counts.items())
        official = ", ".join(f"{split} {count:,}" for split, count in info.counts.items())
        notes.append(f"the archive holds {listed}; officially {official}: it is not the original")
    names = Labels(info.task, info.classes, (), tuple(notes), ("labels",))
    return Listing(folder, tuple(records), names)


def archive_name(name: str, size: int) -> str:
    """Official file name."""
    return f"{name}.npz" if size == 28 else f"{name}_{size}.npz"


def find_archive(root: Path, name: str, size: int) -> Path:
    """The archive below or at the root.

    Raises:
        EmptyDataError: it is not there.
    """
    wanted = archive_name(name, size)
    if root.is_file():
        return root
    for place in (root / wanted, root / "medmnist" / wanted):
        if place.is_file():
            return place
    need_folder(root)
    others = sorted(entry.name for entry in root.glob(f"{name}*.npz"))
    found = f" There is {', '.join(others)}." if others else ""
    raise EmptyDataError(
        f"{root} holds no {wanted}.{found}",
        f"Fetch it from {SOURCE}; other sizes are called {name}_64, _128, _224.",
    )


def _heads(source: Path) -> tuple[dict[Split, tuple[int, ...]], dict[Split, np.ndarray]]:
    """Shapes of the images and the labels of each split; no image is read.

    Raises:
        UnreadableFileError: not an archive of MedMNIST.
    """
    shapes: dict[Split, tuple[int, ...]] = {}
    labels: dict[Split, np.ndarray] = {}
    try:
        with zipfile.ZipFile(source) as archive:
            names = set(archive.namelist())
            for split in SPLITS:
                if f"{split}_images.npy" not in names or f"{split}_labels.npy" not in names:
                    continue
                with archive.open(f"{split}_images.npy") as member:
                    shapes[split] = _header(member)[0]
                if archive.getinfo(f"{split}_labels.npy").file_size > _MAX_LABELS:
                    raise ValueError("labels larger than any official set")
                with archive.open(f"{split}_labels.npy") as member:
                    labels[split] = np.lib.format.read_array(member, allow_pickle=False)
    except (*_DAMAGED, OSError) as error:
        raise UnreadableFileError(
            f"{source.name} is no MedMNIST archive: {error}.", "Fetch it again."
        ) from error
    for split, shape in shapes.items():
        if len(shape) not in (3, 4) or len(labels[split]) != shape[0]:
            raise UnreadableFileError(
                f"{source.name}: {split} has images of shape {shape} and {len(labels[split])} "
                "labels.",
                "Fetch it again.",
            )
    if not shapes:
        raise UnreadableFileError(
            f"{source.name} holds no train_images, val_images or test_images.", "Fetch it again."
        )
    return shapes, labels


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type of an array, read from its header; the stream then stands at its data."""
    version = np.lib.format.read_magic(member)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    shape, fortran, dtype = read(member)
    if fortran or dtype != np.uint8:
        raise ValueError(f"images of type {dtype}")
    return shape, dtype


def _is_volume(shape: tuple[int, ...]) -> bool:
    return len(shape) == 4 and shape[-1] != 3


def _per_block(shape: tuple[int, ...]) -> int:
    """Images per file: one volume, or as many slices as fit."""
    if _is_volume(shape):
        return 1
    return max(1, BLOCK_BYTES // int(np.prod(shape[1:])))


def _unpacked(
    source: Path, shapes: dict[Split, tuple[int, ...]], progress: Progress | None
) -> Path:
    """The folder of blocks in the cache; made whole, or not at all."""
    found = source.stat()
    question = [source.name, found.st_size, found.st_mtime_ns, BLOCK_BYTES]
    folder = cache_dir("datasets") / f"medmnist-{sha256_json(question)[:32]}"
    if (folder / _DONE).is_file():
        return folder
    try:
        with atomic_folder(folder) as part:
            with zipfile.ZipFile(source) as archive:
                for split, shape in shapes.items():
                    with archive.open(f"{split}_images.npy") as member:
                        _write_blocks(member, part / split, shape, progress)
            (part / _DONE).touch()
    except _DAMAGED as error:
        raise UnreadableFileError(f"{source.name} is damaged: {error}.", "Fetch it again.") from (
            error
        )
    except OSError:
        if not (folder / _DONE).is_file():  # else another process was first
            raise
    return folder


def _write_blocks(
    member: IO[bytes], folder: Path, shape: tuple[int, ...], progress: Progress | None
) -> None:
    folder.mkdir()
    _header(member)
    count, per_block = shape[0], _per_block(shape)
    image = int(np.prod(shape[1:]))
    for block, start in enumerate(range(0, count, per_block)):
        here = min(per_block, count - start)
        data = member.read(here * image)
        if len(data) != here * image:
            raise EOFError("it ends early")
        pixels = np.frombuffer(data, np.uint8).reshape(here, *shape[1:])
        np.save(folder / f"{block:05d}.npy", pixels[0] if _is_volume(shape) else pixels)
        if progress is not None:
            progress(f"unpacking {folder.name}", start + here, count)


def _records(
    folder: Path, split: Split, shape: tuple[int, ...], rows: list[tuple[int, ...]]
) -> list[Record]:
    per_block = _per_block(shape)
    records = []
    for at, row in enumerate(rows):
        name = f"{split}/{at // per_block:05d}.npy"
        frame = None if _is_volume(shape) else at % per_block
        alone = f"{split} {at}"  # a block of the unpacked archive is no patient
        records.append(Record(name, folder / name, row, alone, split=split, frame=frame))
    return records


def _rows(labels: np.ndarray, info: MedMNIST, count: int) -> list[tuple[int, ...]]:
    """Labels as in `Sample`."""
    table = np.asarray(labels).reshape(count, -1).astype(np.int64)
    width = len(info.classes) if info.task == "multilabel" else 1
    highest = 1 if info.task == "multilabel" else len(info.classes) - 1
    if table.shape[1] != width or table.min(initial=0) < 0 or table.max(initial=0) > highest:
        raise LabelError(
            f"The labels of {info.name} have {table.shape[1]} columns and values from "
            f"{table.min()} to {table.max()}.",
            f"Allowed: {width} columns, 0 to {highest}. Is it the archive of this set?",
        )
    return [tuple(row) for row in table.tolist()]


def size_of(name: str) -> tuple[str, int]:
    """`pathmnist_64` → (pathmnist, 64)."""
    base, _, size = name.partition("_")
    return base, int(size) if size.isdigit() else 28
