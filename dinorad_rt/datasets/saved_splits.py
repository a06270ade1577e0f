"""Splits that were made are saved, so that a grown dataset keeps each patient where it was.

They lie in the cache as keyed hashes of patients, one file per data, labels and seed.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dinorad_rt.errors import OutputError
from dinorad_rt.files import atomic_path
from dinorad_rt.paths import cache_dir
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.types import SPLITS, Split

FORMAT = 1


def splits_file(root: Path, columns: Sequence[str], seed: int) -> Path:
    """Where the splits of some data are saved; its name tells nothing of the data."""
    question = json.dumps([str(root.resolve()), sorted(columns), seed])
    return cache_dir("splits") / f"{pseudonym('splits', question)}.json"


def load_splits(source: Path, patients: Sequence[str]) -> dict[str, Split]:
    """Patient → split of an earlier run, for those of these patients that had one."""
    try:
        document = json.loads(source.read_text())
        known = document["patients"] if document["format"] == FORMAT else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    found = {name: known.get(pseudonym("patient", name)) for name in set(patients)}
    return {name: split for name, split in found.items() if split in SPLITS}


def save_splits(target: Path, splits: Mapping[str, Split]) -> None:
    """Save patient → split, whole or not at all; a cache that cannot be written changes nothing,
    since the same data gets the same splits again."""
    kept = {pseudonym("patient", name): split for name, split in sorted(splits.items())}
    text = json.dumps({"format": FORMAT, "patients": kept}, indent=1)
    with contextlib.suppress(OSError, OutputError), atomic_path(target) as part:
        part.write_text(text)
