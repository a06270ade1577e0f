"""Masks' metrics against scikit-learn, SciPy distances, torchmetrics and hand-made cases."""

from __future__ import annotations

import numpy as np
import pytest

from dinorad_rt.errors import DataError
from dinorad_rt.metrics.segmentation import (
    case_scores,
    confusion_matrix,
    convention_notes,
    diagonal,
    pooled_dice,
    pooled_jaccard,
    segmentation_metrics,
    surface_scores,
)

NAMES = ("background", "anterior", "posterior")


def volume(seed: int, shape: tuple[int, int, int] = (6, 20, 24)) -> tuple[np.ndarray, np.ndarray]:
    """A truth of two ellipsoids, and a prediction that is shifted and noisy."""
    random = np.random.default_rng(seed)
    axes = np.meshgrid(
        *(np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape), indexing="ij"
    )
    truth = np.zeros(shape, np.uint8)
    for label, centre in ((1, (-0.3, -0.3, -0.3)), (2, (0.3, 0.3, 0.3))):
        distance = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        truth[distance < 0.15 + 0.1 * random.random()] = label
    predicted = np.roll(truth, (0, 1, int(random.integers(-2, 3))), axis=(0, 1, 2))
    flips = random.random(shape) < 0.01
    predicted[flips] = random.integers(0, 3, int(flips.sum()))
    return truth, predicted


def boundary(mask: np.ndarray, spacing: tuple[float, ...]) -> np.ndarray:
    """Positions in millimetres of the voxels that touch the outside, by SciPy."""
    from scipy.ndimage import binary_erosion

    return np.argwhere(mask & ~binary_erosion(mask)) * np.asarray(spacing)


def brute_force(
    truth: np.ndarray, predicted: np.ndarray, spacing: tuple[float, ...], tolerance: float
) -> tuple[float, float]:
    """HD95 and NSD from all pairs of surface voxels."""
    from scipy.spatial.distance import cdist

    pairs = cdist(boundary(truth, spacing), boundary(predicted, spacing))
    there, back = pairs.min(axis=1), pairs.min(axis=0)
    hd95 = max(np.percentile(there, 95), np.percentile(back, 95))
    within = (there <= tolerance).sum() + (back <= tolerance).sum()
    return float(hd95), float(within / (len(there) + len(back)))


def test_overlap_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import f1_score, jaccard_score

    truth, predicted = volume(0)
    scores = case_scores(truth, predicted, 3)
    for found, theirs in ((scores.dice, f1_score), (scores.jaccard, jaccard_score)):
        expected = theirs(truth.ravel(), predicted.ravel(), labels=[1, 2], average=None)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.7, 0.9)])
@pytest.mark.parametrize("seed", [1, 2])
def test_surface_distances_are_those_of_all_pairs(
    seed: int, spacing: tuple[float, float, float]
) -> None:
    truth, predicted = volume(seed)
    scores = case_scores(truth, predicted, 3, spacing=spacing, tolerance=1.5)
    assert scores.unit == "mm"
    for label in (1, 2):
        expected = brute_force(truth == label, predicted == label, spacing, 1.5)
        found = scores.hd95[label - 1], scores.nsd[label - 1]
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_single_slice_is_flat_and_counts_pixels() -> None:
    truth, predicted = volume(3, (1, 40, 50))
    scores = case_scores(truth, predicted, 3, spacing=None)
    assert scores.unit == "px"
    expected = brute_force(truth[0] == 1, predicted[0] == 1, (1.0, 1.0), 1.0)
    np.testing.assert_allclose((scores.hd95[0], scores.nsd[0]), expected, rtol=1e-5)
    thick = case_scores(truth, predicted, 3, spacing=(np.nan, 0.5, 0.5))
    assert thick.unit == "mm"
    np.testing.assert_allclose(thick.hd95, scores.hd95 / 2, rtol=1e-6)


def test_masks_at_the_border_have_a_surface_there() -> None:
    full = np.ones((4, 5, 6), bool)
    assert surface_scores(full, full, (1, 1, 1), 1.0) == (0.0, 1.0)
    half = full.copy()
    half[:, :, 3:] = False
    expected = brute_force(full, half, (1.0, 1.0, 1.0), 1.0)
    np.testing.assert_allclose(surface_scores(full, half, (1, 1, 1), 1.0), expected)


def test_pooled_metrics_are_those_of_torchmetrics() -> None:
    import torch
    from sklearn.metrics import f1_score
    from torchmetrics.classification import MulticlassJaccardIndex

    jaccard = MulticlassJaccardIndex(num_classes=3, average="macro", ignore_index=0)
    truths, predictions = zip(*(volume(seed) for seed in range(4)), strict=True)
    for truth, predicted in zip(truths, predictions, strict=True):
        jaccard.update(torch.from_numpy(predicted).long(), torch.from_numpy(truth).long())
    truth, predicted = np.stack(truths), np.stack(predictions)
    counts = confusion_matrix(truth, predicted, 3)
    assert float(jaccard.compute()) == pytest.approx(pooled_jaccard(counts).mean(), rel=1e-6)
    expected = f1_score(truth.ravel(), predicted.ravel(), labels=[1, 2], average="macro")
    assert pooled_dice(counts).mean() == pytest.approx(expected, rel=1e-12)


def test_pooled_jaccard_of_one_class_is_pixel_recall() -> None:
    from sklearn.metrics import recall_score

    truth, predicted = (mask > 0 for mask in volume(5))
    counts = confusion_matrix(truth.astype(np.uint8), predicted.astype(np.uint8), 2)
    expected = recall_score(truth.ravel(), predicted.ravel())
    assert pooled_jaccard(counts)[0] == pytest.approx(expected, rel=1e-12)


def test_empty_masks_follow_the_stated_conventions() -> None:
    empty = np.zeros((3, 4, 5), np.uint8)
    some = empty.copy()
    some[1, 1, 1] = 1
    both = case_scores(empty, empty, 3, spacing=(2, 1, 1))
    assert np.isnan([both.dice, both.jaccard, both.hd95, both.nsd]).all()
    assert both.penalised == 0
    worst = float(np.linalg.norm([4, 3, 4]))
    for pair in ((empty, some), (some, empty)):
        scores = case_scores(*pair, 2, spacing=(2, 1, 1))
        assert (scores.dice[0], scores.jaccard[0], scores.nsd[0]) == (0, 0, 0)
        assert scores.hd95[0] == pytest.approx(worst) == diagonal((3, 4, 5), (2, 1, 1))
        assert scores.penalised == 1


def test_means_over_volumes_and_intervals_by_patient() -> None:
    cases = [case_scores(*volume(seed), 3, spacing=(1, 1, 1)) for seed in range(8)]
    patients = np.asarray(["a", "a", "b", "b", "c", "c", "d", "d"])
    found = segmentation_metrics(cases, patients, NAMES, resamples=400, seed=1)
    by_key = {(m.name, m.setting["over"], m.class_name): m for m in found}
    overall = by_key["dice", "volumes", None]
    assert overall.value == pytest.approx(np.mean([case.dice for case in cases]))
    assert overall.ci_low is not None and overall.ci_high is not None
    assert overall.ci_low < overall.value < overall.ci_high
    assert (overall.n, overall.n_patients) == (8, 4)
    # the same interval from drawing patients by hand
    random = np.random.default_rng(0)
    means = np.asarray([case.dice.mean() for case in cases]).reshape(4, 2).mean(axis=1)
    draws = means[random.integers(4, size=(20_000, 4))].mean(axis=1)
    np.testing.assert_allclose(
        (overall.ci_low, overall.ci_high), np.percentile(draws, [2.5, 97.5]), atol=0.004
    )
    pooled = sum(case.confusion for case in cases)
    value = by_key["jaccard", "pixels", "posterior"].value
    assert value == pytest.approx(pooled_jaccard(pooled)[1])
    assert found[-1].setting == {"over": "volumes"}
    assert by_key["hd95", "volumes", "anterior"].n_positive == 8


def test_an_absent_class_is_left_out_of_the_means() -> None:
    truth, predicted = volume(1)
    cases = [case_scores(truth, predicted, 3), case_scores(np.minimum(truth, 1), predicted * 0, 3)]
    found = segmentation_metrics(cases, np.asarray(["a", "b"]), NAMES, resamples=50)
    dice = {m.class_name: m for m in found if m.name == "dice" and m.setting["over"] == "volumes"}
    assert dice["posterior"].value == pytest.approx(cases[0].dice[1])
    assert dice[None].value == pytest.approx((cases[0].dice.mean() + 0) / 2)
    assert dice["posterior"].undefined > 0
    notes = " ".join(convention_notes(cases, NAMES))
    assert "1 of 4 pairs" in notes and "HD95 is in px" in notes


def test_masks_that_do_not_fit_are_refused() -> None:
    truth, predicted = volume(0)
    with pytest.raises(DataError, match="shapes"):
        case_scores(truth, predicted[:, :-1], 3)
    with pytest.raises(DataError, match="labels from 0 to 2; the task has 2 classes"):
        case_scores(truth, predicted, 2)
    mixed = [case_scores(truth, predicted, 3, spacing=s) for s in (None, (1, 1, 1))]
    with pytest.raises(DataError, match="spacing of 1 of 2"):
        segmentation_metrics(mixed, np.asarray(["a", "b"]), NAMES)
