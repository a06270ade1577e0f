"""Which training rows a few-shot protocol may see: drawn by patient or by image, or as the study.

Subsets of one seed are nested: those of 2 shots are among those of 4, so that a curve over shots
shows the gain of more data and not of other data.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dinorad_rt.appearance import by_appearance

By = Literal["patient", "image"]


def random_subset(
    hot: np.ndarray, patients: np.ndarray, shots: int, *, by: By, seed: int
) -> np.ndarray:
    """Rows of `shots` patients (all their images), or images, for each class.

    A patient or image that shows several classes counts for the first that draws it; the rarest
    class draws first. A class with fewer gives all it has.

    Args:
        hot: (rows, classes) bool, which classes each row shows.
        patients: (rows,) keys.
        shots: per class, from 1.
        by: what is drawn.
        seed: same seed, same rows.

    Returns:
        Row indices, ascending.
    """
    units = unit_of(patients, by)
    shows = np.zeros((units.max() + 1, hot.shape[1]), bool)
    np.logical_or.at(shows, units, hot)
    taken = np.zeros(len(shows), bool)
    for c in np.argsort(shows.sum(axis=0), kind="stable"):
        order = np.random.default_rng([seed, int(c)]).permutation(np.flatnonzero(shows[:, c]))
        taken[order[~taken[order]][:shots]] = True
    return np.flatnonzero(taken[units])


def study_subset(
    hot: np.ndarray, patients: np.ndarray, shots: int, *, by_class: bool
) -> np.ndarray:
    """Rows as the study's code takes them: no chance in it.

    Args:
        hot: (rows, classes) bool.
        patients: (rows,) keys.
        shots: patients per class, or images in all.
        by_class: its rule for NIH: for each class the first `shots` patients all of whose images
            show it, without those taken before, with all their images. Otherwise its rule for all
            other sets: `shots` images in all, evenly spaced, whatever they show.

    Returns:
        Row indices, ascending.
    """
    if not by_class:
        spaced = np.round(np.arange(shots) * (len(hot) / shots)).astype(int)
        return np.unique(np.minimum(spaced, len(hot) - 1))
    units = unit_of(patients, "patient")
    always = np.ones((units.max() + 1, hot.shape[1]), bool)
    np.logical_and.at(always, units, hot)
    taken = np.zeros(len(always), bool)
    for c in range(hot.shape[1]):
        taken[np.flatnonzero(always[:, c] & ~taken)[:shots]] = True
    return np.flatnonzero(taken[units])


def units_per_class(hot: np.ndarray, patients: np.ndarray, by: By) -> np.ndarray:
    """(classes,) number of patients, or images, that show each class."""
    if not len(hot):
        return np.zeros(hot.shape[1], int)
    units = unit_of(patients, by)
    shows = np.zeros((units.max() + 1, hot.shape[1]), bool)
    np.logical_or.at(shows, units, hot)
    return np.asarray(shows.sum(axis=0))


def unit_of(patients: np.ndarray, by: By) -> np.ndarray:
    """(rows,) index of each row's patient, or of itself, in order of first appearance."""
    if by == "image":
        return np.arange(len(patients))
    return by_appearance(patients.astype(str)).index


def served(shots: Sequence[int], most: int) -> tuple[int, ...]:
    """Those that can be drawn; at least one shot."""
    return tuple(n for n in shots if n <= most) or (1,)
