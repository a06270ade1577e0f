"""Splits: the words for them, and patient-level stratified ones where the data brings none."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from dinorad_rt.errors import DataError
from dinorad_rt.types import Split

FRACTIONS: dict[Split, float] = {"train": 0.6, "val": 0.2, "test": 0.2}
OF_TRAIN: dict[Split, float] = {"train": 0.8, "val": 0.2}
"""How training images are divided where the test split is given and no validation split is."""

_WORDS: dict[str, Split] = {
    **dict.fromkeys(("train", "training", "tr", "trn", "traindata"), "train"),
    **dict.fromkeys("val valid validate validation dev development tune".split(), "val"),
    **dict.fromkeys("test testing ts tst eval evaluation heldout holdout".split(), "test"),
}


def parse_split(word: str) -> Split | None:
    """train, val or test from the words that people use for them; None if it is none of them."""
    return _WORDS.get("".join(c for c in word.lower() if c.isalpha()))


def stratified_splits(
    patients: Sequence[str],
    targets: np.ndarray,
    *,
    seed: int = 0,
    fixed: Mapping[str, Split] | None = None,
    shares: Mapping[Split, float] = FRACTIONS,
) -> list[Split]:
    """Split by patient so that each class keeps its share in each split.

    Args:
        patients: identifier per sample.
        targets: (samples, classes) 0/1.
        seed: another seed, another split; the same on every machine and for any order of rows.
        fixed: patients that have their split already; the others fill up around them.
        shares: the splits that are made, and their parts of the samples.

    Returns:
        One split per sample; all samples of a patient in one.

    Raises:
        DataError: fewer than two patients.

    Source: iterative stratification, Sechidis et al. 2011, with patients as the units.
    """
    names = sorted(set(patients), key=lambda name: _shuffled(name, seed))
    if len(names) < 2:
        raise DataError(
            f"The data has {len(names)} patient: no split by patient can be made.",
            "Give data of more patients, or a split column.",
        )
    row_of = {name: row for row, name in enumerate(names)}
    rows = np.asarray([row_of[name] for name in patients])
    counts = np.zeros((len(names), targets.shape[1] + 1))
    np.add.at(counts[:, :-1], rows, targets)
    np.add.at(counts[:, -1], rows, 1)
    made = tuple(shares)
    given = np.asarray([made.index(fixed[n]) if fixed and n in fixed else -1 for n in names])
    chosen = _assign(counts, given, np.asarray([shares[split] for split in made]))
    chosen = _none_empty(chosen, made)
    return [made[chosen[row]] for row in rows]


def _assign(counts: np.ndarray, given: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Greedy assignment of patients, the rarest class first, to the split that needs it most.

    Args:
        counts: (patients, classes + 1) samples per class; the last column counts all samples.
        given: (patients,) index of the split that is fixed, or -1.
        shares: (splits,) of the samples.
    """
    need = shares[:, None] * counts.sum(axis=0)
    chosen = given.copy()
    for split in range(len(shares)):
        need[split] -= counts[given == split].sum(axis=0)
    present = counts > 0
    for column in _rarest_first(present):
        waiting = np.flatnonzero((chosen < 0) & present[:, column])
        for patient in waiting[np.argsort(-counts[waiting, column], kind="stable")]:
            wanted = need[:, column] / shares
            best = np.lexsort((-(need[:, -1] / shares), -wanted))[0]
            chosen[patient] = best
            need[best] -= counts[patient]
    return chosen


def _rarest_first(present: np.ndarray) -> list[int]:
    """Classes by number of patients; the column of all samples comes last."""
    classes = range(present.shape[1] - 1)
    return [*sorted(classes, key=lambda c: int(present[:, c].sum())), present.shape[1] - 1]


def _none_empty(chosen: np.ndarray, made: Sequence[Split]) -> np.ndarray:
    """Tiny data: make sure that train and test have a patient each, and val if one is left."""
    val = made.index("val")
    for needed in (made.index(split) for split in ("train", "test", "val") if split in made):
        counts = np.bincount(chosen, minlength=len(made))
        if counts[needed] or (needed == val and counts.max() < 2):
            continue
        giver = val if counts[val] else int(counts.argmax())
        chosen[np.flatnonzero(chosen == giver)[-1]] = needed
    return chosen


def _shuffled(name: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}\x1f{name}".encode("utf-8", "surrogateescape")).digest()
