"""Splits by patient: no leak, the right shares, and as even as scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import StratifiedGroupKFold

from dinorad_rt.datasets.splits import OF_TRAIN, parse_split, stratified_splits
from dinorad_rt.errors import DataError
from dinorad_rt.types import Split


@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(0, 2)), min_size=2, max_size=60),
    st.integers(0, 3),
)
@settings(max_examples=60, deadline=None)
def test_no_patient_stands_in_two_splits(rows: list[tuple[int, int]], seed: int) -> None:
    patients = [f"p{patient}" for patient, _ in rows]
    targets = np.eye(3, dtype=int)[[label for _, label in rows]]
    if len(set(patients)) < 2:
        with pytest.raises(DataError, match="1 patient"):
            stratified_splits(patients, targets, seed=seed)
        return
    splits = stratified_splits(patients, targets, seed=seed)
    assert all(
        len({s for s, p in zip(splits, patients, strict=True) if p == one}) == 1 for one in patients
    )
    assert {"train", "test"} <= set(splits)
    order = np.random.default_rng(seed).permutation(len(rows))
    again = stratified_splits([patients[i] for i in order], targets[order], seed=seed)
    assert [splits[i] for i in order] == again


def test_classes_keep_their_shares_as_with_sklearn() -> None:
    rng = np.random.default_rng(0)
    patients = [f"p{i}" for i in np.repeat(np.arange(400), rng.integers(1, 6, 400))]
    label_of = dict(
        zip(sorted(set(patients)), rng.choice(4, 400, p=[0.6, 0.25, 0.1, 0.05]), strict=True)
    )
    labels = np.array([label_of[p] for p in patients])
    splits = np.array(stratified_splits(patients, np.eye(4, dtype=int)[labels]))

    def unevenness(test: np.ndarray) -> float:
        shares = np.bincount(labels[test], minlength=4) / np.bincount(labels, minlength=4)
        return float(np.abs(shares - 0.2).max())

    folds = StratifiedGroupKFold(5, shuffle=True, random_state=0).split(labels, labels, patients)
    theirs = np.mean([unevenness(test) for _, test in folds])
    assert unevenness(splits == "test") <= max(theirs, 0.02)
    assert abs((splits == "train").mean() - 0.6) < 0.02


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_validation_is_drawn_from_training_patients_alone(owners: list[int], seed: int) -> None:
    patients = [f"p{owner}" for owner in owners]
    if len(set(patients)) < 2:
        return
    targets = np.ones((len(patients), 1), int)
    fixed: dict[str, Split] = {patients[0]: "val"}
    splits = stratified_splits(patients, targets, seed=seed, fixed=fixed, shares=OF_TRAIN)
    assert set(splits) == {"train", "val"} and splits[0] == "val"
    assert len(set(zip(patients, splits, strict=True))) == len(set(patients))


def test_a_fifth_of_training_is_drawn_for_validation() -> None:
    patients = [str(number) for number in range(200)]
    targets = np.eye(2, dtype=int)[[int(number % 10 == 0) for number in range(200)]]
    splits = np.asarray(stratified_splits(patients, targets, shares=OF_TRAIN))
    assert (splits == "val").sum() == 40 and targets[splits == "val", 1].sum() == 4


def test_rare_findings_reach_every_split() -> None:
    targets = np.zeros((100, 3), int)
    targets[:50, 0] = 1
    targets[[3, 60, 90], 1] = 1
    splits = np.array(stratified_splits([str(i) for i in range(100)], targets))
    assert set(splits[[3, 60, 90]]) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("word", "split"),
    [
        ("Train", "train"),
        ("VALID", "val"),
        ("dev", "val"),
        ("validate", "val"),
        ("test ", "test"),
        ("held-out", "test"),
        ("x", None),
        ("", None),
    ],
)
def test_words_for_splits(word: str, split: str | None) -> None:
    assert parse_split(word) == split
