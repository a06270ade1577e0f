"""Numbers of groups follow the rows, so that the keys of a machine decide nothing."""

from __future__ import annotations

import numpy as np
import pytest

from dinorad_rt.appearance import by_appearance
from dinorad_rt.metrics.classification import weighted_auroc
from dinorad_rt.metrics.comparisons import auroc_swap, permutation_test
from dinorad_rt.metrics.intervals import cluster_bootstrap
from dinorad_rt.protocols.shots import unit_of


def test_groups_are_numbered_as_they_appear() -> None:
    groups = by_appearance(np.array(["q", "b", "q", "z", "b", "a"]))
    assert groups.keys.tolist() == ["q", "b", "z", "a"]
    assert groups.first.tolist() == [0, 1, 3, 5]
    assert groups.index.tolist() == [0, 1, 0, 2, 1, 3]
    assert len(groups) == 4 and len(by_appearance(np.array([], dtype=str))) == 0


@pytest.mark.parametrize("seed", range(3))
def test_other_keys_of_the_same_patients_change_no_interval_and_no_p_value(seed: int) -> None:
    """Pseudonyms differ from machine to machine; what is published must not."""
    random = np.random.default_rng(seed)
    patients = np.sort(random.integers(25, size=80))
    keys = np.array([random.bytes(8).hex() for _ in range(25)])
    positive = random.random(80) < 0.4
    scores = positive + random.normal(size=(2, 80))
    found = []
    for names in (patients.astype(str), keys[patients]):
        metric = {"auroc": lambda weights: weighted_auroc(positive, scores[0], weights)}
        interval = cluster_bootstrap(metric, names, resamples=300, seed=1)["auroc"]
        swapped = permutation_test(auroc_swap(positive, *scores), names, permutations=300, seed=1)
        found.append((interval, swapped, unit_of(names, "patient").tolist()))
    assert found[0] == found[1]
