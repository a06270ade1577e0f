"""The metrics at the size of NIH ChestX-ray14's official test split, against scikit-learn.

25,596 images of 2,797 patients, one of whom has 184; 14 labels from 18 % down to one with two
positives. Made up; the draws are those of our bootstrap, what is computed of them is not.
"""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as reference

from dinorad_rt.embeddings.table import DatasetInfo
from dinorad_rt.metrics.comparisons import auroc_swap
from dinorad_rt.metrics.intervals import patient_counts
from dinorad_rt.metrics.report import panel_of

IMAGES, PATIENTS, MOST = 25_596, 2_797, 184
SHARES = np.geomspace(0.18, 0.002, 14)
NAMES = tuple(f"finding {index}" for index in range(14))


@pytest.fixture(scope="module")
def patient() -> np.ndarray:
    """(images,) patient of each image: most have a few, the first has 184."""
    random = np.random.default_rng(0)
    rest = random.geometric((PATIENTS - 1) / (IMAGES - MOST), PATIENTS - 1).clip(1, MOST)
    while rest.sum() != IMAGES - MOST:
        more = np.sign(IMAGES - MOST - rest.sum())
        at = random.integers(len(rest))
        rest[at] = np.clip(rest[at] + more, 1, MOST)
    return np.repeat(np.arange(PATIENTS), [MOST, *rest])


@pytest.fixture(scope="module")
def judged(patient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels that patients share, and scores of a kNN: few distinct ones, many ties at 0."""
    random = np.random.default_rng(1)
    habit = random.random((PATIENTS, 14))[patient]
    labels = (0.5 * habit + 0.5 * random.random((IMAGES, 14)) > 1 - np.sqrt(SHARES / 2)).astype(int)
    labels[:, 13] = 0
    labels[[0, 1], 13] = 1  # both of the patient with 184 images
    scores = (0.6 * random.random((IMAGES, 14)) + 0.4 * labels * random.random((IMAGES, 14))) ** 3
    return labels, np.where(scores < 0.02, 0.0, scores.round(3))


def test_every_metric_of_every_resample_is_scikit_learns(
    patient: np.ndarray, judged: tuple[np.ndarray, np.ndarray]
) -> None:
    labels, scores = judged
    info = DatasetInfo("made up", "multilabel", NAMES)
    usable = list(range(14))
    who = (patient, PATIENTS)
    panel = panel_of(scores, labels, who, info, usable=usable, specificity=0.9)
    counts = np.concatenate(
        [
            np.ones((1, PATIENTS), np.int64),
            next(patient_counts(PATIENTS, resamples=3, seed=0)),
        ]
    )
    without = counts[-1].copy()
    without[0] = 0  # the two positives of the last label are gone
    counts = np.vstack([counts, without])
    found = dict(zip(panel.keys, panel.metric(counts), strict=True))
    for row, count in enumerate(counts):
        drawn = np.repeat(np.arange(IMAGES), count[patient])
        truth, said = labels[drawn], scores[drawn]
        present = [c for c in usable if truth[:, c].any()]
        for c in present:
            auroc = reference.roc_auc_score(truth[:, c], said[:, c])
            precision = reference.average_precision_score(truth[:, c], said[:, c])
            assert found["auroc", c][row] == pytest.approx(auroc, abs=1e-12)
            assert found["average_precision", c][row] == pytest.approx(precision, abs=1e-12)
        micro = reference.roc_auc_score(truth.ravel(), said.ravel())
        assert found["auroc_micro", None][row] == pytest.approx(micro, abs=1e-12)
        macro = found["auroc", None][row]
        if len(present) < 14:
            assert np.isnan(macro) and np.isnan(found["sensitivity", 13][row])
        else:
            assert macro == pytest.approx(np.mean([found["auroc", c][row] for c in usable]))
        exact = (truth == (said >= 0.5)).all(axis=1).mean()
        assert found["accuracy", None][row] == pytest.approx(exact, abs=1e-12)
        brier = ((said - truth) ** 2).mean()
        assert found["brier", None][row] == pytest.approx(brier, abs=1e-12)
    assert np.isnan(found["auroc", None]).sum() >= 1


def test_patients_with_many_images_widen_the_interval(
    patient: np.ndarray, judged: tuple[np.ndarray, np.ndarray]
) -> None:
    """Scores that a patient's images share: the same spread as of draws made one by one."""
    from dinorad_rt.metrics.by_patient import AurocByPatient
    from dinorad_rt.metrics.intervals import bootstrap_patients

    random = np.random.default_rng(2)
    positive = (random.random(PATIENTS) < 0.2)[patient]
    score = (random.standard_normal(PATIENTS) + (random.random(PATIENTS) < 0.3))[patient] + positive
    (found,) = bootstrap_patients(
        AurocByPatient(positive, score, patient, PATIENTS), PATIENTS, resamples=2000
    )
    rows_of = np.split(np.arange(IMAGES), np.flatnonzero(np.diff(patient)) + 1)
    values = []
    for _ in range(150):
        drawn = np.concatenate([rows_of[p] for p in random.integers(PATIENTS, size=PATIENTS)])
        values.append(reference.roc_auc_score(positive[drawn], score[drawn]))
    width = found.high - found.low
    assert width == pytest.approx(2 * 1.96 * np.std(values), rel=0.2)
    alone = 2 * 1.96 * np.sqrt(found.value * (1 - found.value) / positive.sum())
    assert width > 2 * alone  # images are not independent


def test_swaps_of_patients_are_scikit_learns(
    patient: np.ndarray, judged: tuple[np.ndarray, np.ndarray]
) -> None:
    from scipy.stats import rankdata

    labels, scores = judged
    positive = labels[:, 12].astype(bool)
    ranks = rankdata(scores[:, 12]), rankdata(scores[::-1, 12])
    swaps = (np.random.default_rng(3).random((3, PATIENTS)) < 0.5)[:, patient]
    found = auroc_swap(positive, scores[:, 12], scores[::-1, 12])(swaps)
    for swap, value in zip(swaps, found, strict=True):
        left, right = np.where(swap, ranks[1], ranks[0]), np.where(swap, ranks[0], ranks[1])
        expected = reference.roc_auc_score(positive, right)
        expected -= reference.roc_auc_score(positive, left)
        assert value == pytest.approx(expected, abs=1e-12)
