"""The run folder: train.json (facts), best.safetensors (what was trained), last.pt (to resume).

RUN/train.json          what was trained on what, how, and how it went
RUN/best.safetensors    trained tensors of the best epoch, by their names in the module
RUN/adapter/            the adapters of it once more, in peft's own format
RUN/last.pt             state for resuming
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dinorad_rt.errors import RunError
from dinorad_rt.files import atomic_path, claimed_dir, read_json, write_json

if TYPE_CHECKING:
    import torch

RUN_FORMAT = 1
RUN_FILE = "train.json"
BEST_FILE = "best.safetensors"
STATE_FILE = "last.pt"
ADAPTER_FOLDER = "adapter"


@contextmanager
def claimed_run(folder: Path) -> Iterator[None]:
    """Be the only writer of a run folder, which is new, empty or one of an earlier run.

    Raises:
        OutputExistsError: the folder holds something else, or is being trained into.
        OutputError: it cannot be written.
        RunError: its train.json cannot be read, or its last.pt was cut.
    """
    with claimed_dir(folder, RUN_FILE):
        if (folder / RUN_FILE).exists():
            read_run(folder)
        state = folder / STATE_FILE
        if state.exists() and not zipfile.is_zipfile(state):  # its table stands at the end
            raise RunError(
                f"{STATE_FILE} cannot be read: it was cut, or PyTorch did not write it.",
                "Train again into a new folder with --out.",
            )
        yield


def write_run(folder: Path, facts: Mapping[str, Any]) -> None:
    """Write train.json."""
    write_json(folder / RUN_FILE, {"format": RUN_FORMAT, **facts})


def read_run(folder: Path) -> dict[str, Any]:
    """Read train.json.

    Raises:
        RunError: there is none, or of another version.
    """
    path = Path(folder) / RUN_FILE
    if not path.is_file():
        raise RunError(
            f"{folder} is no run: it holds no {RUN_FILE}.",
            "Give a folder that dinorad-rt train wrote (--out).",
        )
    try:
        facts = read_json(path)
    except ValueError as error:
        raise RunError(f"{path} cannot be read: {error}", "Train again into a new folder.") from (
            error
        )
    if facts.get("format") != RUN_FORMAT:
        raise RunError(
            f"{path} has format {facts.get('format')}, this version reads {RUN_FORMAT}.",
            "Train again with this version.",
        )
    return facts


def write_best(folder: Path, tensors: Mapping[str, torch.Tensor], epoch: int) -> None:
    """Write best.safetensors atomically."""
    from safetensors.torch import save_file

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(folder / BEST_FILE) as part:
        # one entry: safetensors writes several in a random order, and the file's hash is its name
        save_file(plain, part, metadata={"epoch": str(epoch)})


def read_best(folder: Path) -> dict[str, torch.Tensor]:
    """Read best.safetensors.

    Raises:
        RunError: there is none, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = Path(folder) / BEST_FILE
    if not path.is_file():
        raise RunError(
            f"{folder} holds no {BEST_FILE}: no epoch was finished there.",
            "Run the same dinorad-rt train command again: it goes on where it stopped.",
        )
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise RunError(f"{path} is damaged: {error}", "Train again into a new folder.") from error
