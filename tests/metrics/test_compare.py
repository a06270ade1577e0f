"""Runs against each other: the numbers against plain resampling, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.metrics import compare
from dinorad_rt.metrics.compare import Question, chosen_predictions, compare_runs
from dinorad_rt.protocols.judge import judge
from dinorad_rt.protocols.knn import KNNSettings
from dinorad_rt.reports.results import Predictions, Results
from dinorad_rt.types import Task

QUICK = Question(resamples=400)


def run_of(
    scores: list[np.ndarray],
    labels: np.ndarray,
    task: Task = "binary",
    *,
    keys: str = "k",
    chosen: dict[str, object] | None = None,
) -> Results:
    """A run whose test images share patients in pairs."""
    count = len(labels)
    names = np.array([f"s{i:03d}" for i in range(count)], dtype=object)
    patients = np.array([f"p{i // 2:03d}" for i in range(count)], dtype=object)
    points = np.zeros((count, 1, 2), np.float32)
    table = EmbeddingTable(names, patients, np.full(count, "test"), labels, points)
    info = DatasetInfo("toy", task, ("no", "yes") if task == "binary" else ("a", "b", "c"))
    predictions = [Predictions({keys: i}, part) for i, part in enumerate(scores)]
    return judge("knn", table, info, predictions, KNNSettings(resamples=20), seed=0, chosen=chosen)


def binary(strength: float, seed: int, count: int = 120) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count) % 2
    raw = strength * labels + np.random.default_rng(seed).standard_normal(count)
    positive = 1 / (1 + np.exp(-raw))
    return np.stack([1 - positive, positive], axis=1), labels


def test_a_better_model_is_called_better_with_the_right_numbers() -> None:
    weak, labels = binary(0.2, 0)
    strong, _ = binary(3.0, 1)
    first, second = run_of([weak], labels), run_of([strong], labels)
    (found,) = compare_runs([first, second], ["weak", "strong"], Question(resamples=2000))
    assert found.value_first == pytest.approx(roc_auc_score(labels, weak[:, 1]))
    assert found.value_second == pytest.approx(roc_auc_score(labels, strong[:, 1]))
    assert "strong (k 0) is better than weak (k 0)" in found.verdict
    assert max(found.p_value, found.p_delong, found.p_permutation) < 0.01  # type: ignore[type-var]
    low, high = plain_interval(labels, weak[:, 1], strong[:, 1])
    assert found.low == pytest.approx(low, abs=0.02)
    assert found.high == pytest.approx(high, abs=0.02)


def plain_interval(
    labels: np.ndarray, first: np.ndarray, second: np.ndarray
) -> tuple[float, float]:
    """Patients drawn one by one, with scikit-learn's AUROC."""
    random = np.random.default_rng(5)
    values = []
    for _ in range(600):
        drawn = random.integers(len(labels) // 2, size=len(labels) // 2)
        rows = np.concatenate([2 * drawn, 2 * drawn + 1])
        values.append(
            roc_auc_score(labels[rows], second[rows]) - roc_auc_score(labels[rows], first[rows])
        )
    return tuple(np.percentile(values, [2.5, 97.5]))  # type: ignore[return-value]


def test_a_model_is_equivalent_to_itself() -> None:
    scores, labels = binary(1.0, 0)
    (found,) = compare_runs([run_of([scores], labels)] * 2, ["one", "two"], QUICK)
    assert found.difference == 0
    assert found.equivalent
    assert "equivalent within ±0.02" in found.verdict


def test_small_noisy_runs_show_neither() -> None:
    first, labels = binary(1.0, 0, count=40)
    second, _ = binary(1.0, 7, count=40)
    (found,) = compare_runs(
        [run_of([first], labels), run_of([second], labels)], ["one", "two"], QUICK
    )
    assert "No difference is shown" in found.verdict
    assert not found.equivalent


def test_lower_brier_is_better() -> None:
    _, labels = binary(1.0, 0)
    hot = np.eye(2)[labels]
    sure, unsure = 0.9 * hot + 0.05, 0.3 * hot + 0.35
    runs = [run_of([unsure], labels), run_of([sure], labels)]
    (found,) = compare_runs(runs, ["unsure", "sure"], Question("brier", resamples=200))
    assert found.difference is not None and found.difference < 0
    assert "sure (k 0) is better" in found.verdict


def test_many_pairs_are_corrected_by_holm() -> None:
    runs = []
    for seed in range(4):
        scores, labels = binary(0.5 + seed, seed)
        runs.append(run_of([scores], labels))
    found = compare_runs(runs, list("abcd"), QUICK)
    assert len(found) == 6
    raw = np.array([item.p_value for item in found])
    order = np.argsort(raw)
    expected = np.minimum(np.maximum.accumulate(raw[order] * np.arange(6, 0, -1)), 1)
    np.testing.assert_allclose([found[i].p_holm for i in order], expected)


def test_each_run_is_resampled_once_however_many_pairs_there_are(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    runs = []
    for seed in range(4):
        scores, labels = binary(0.5 + seed, seed)
        runs.append(run_of([scores], labels))
    seen: list[int] = []
    plain = compare.bootstrap_draws
    monkeypatch.setattr(
        compare, "bootstrap_draws", lambda *a, **k: (seen.append(1), plain(*a, **k))[1]
    )
    assert len(compare_runs(runs, list("abcd"), QUICK)) == 6
    assert len(seen) == 4


def test_rows_in_another_order_are_the_same_images() -> None:
    weak, labels = binary(0.2, 0)
    strong, _ = binary(2.0, 1)
    first, second = run_of([weak], labels), run_of([strong], labels)
    straight = compare_runs([first, second], ["a", "b"], QUICK)
    order = np.random.default_rng(0).permutation(len(labels))
    second.sample_ids, second.patients = second.sample_ids[order], second.patients[order]
    second.labels = second.labels[order]
    second.predictions = [Predictions({"k": 0}, strong[order])]
    assert compare_runs([first, second], ["a", "b"], QUICK) == straight


@pytest.mark.parametrize("change", ["fewer", "other images", "labels", "patients", "task"])
def test_other_test_sets_are_refused(change: str) -> None:
    scores, labels = binary(1.0, 0)
    first, second = run_of([scores], labels), run_of([scores], labels)
    if change == "fewer":
        second = run_of([scores[:80]], labels[:80])
    elif change == "other images":
        second.sample_ids = np.array([f"t{i}" for i in range(len(labels))], dtype=object)
    elif change == "labels":
        second.labels = 1 - second.labels
    elif change == "patients":
        second.patients = second.sample_ids
    else:
        second.class_names = ("healthy", "ill")
    with pytest.raises(ProtocolError, match="not judged on the same test set"):
        compare_runs([first, second], ["a", "b"], QUICK)


def test_the_chosen_setting_counts_and_others_must_be_named() -> None:
    weak, labels = binary(0.2, 0)
    strong, _ = binary(2.0, 1)
    chosen = run_of([weak, strong], labels, chosen={"k": 1})
    open_run = run_of([weak, strong], labels)
    assert chosen_predictions(chosen)[0] == {"k": 1}
    assert chosen_predictions(open_run, {"k": 0})[0] == {"k": 0}
    assert chosen_predictions(open_run, {"k": 0, "shots": 3})[0] == {"k": 0}
    with pytest.raises(ProtocolError, match="--setting k=1"):
        chosen_predictions(open_run)
    with pytest.raises(ProtocolError, match="fits 0"):
        chosen_predictions(open_run, {"k": 9})


def test_repeats_are_compared_by_their_mean() -> None:
    parts = [binary(1.0, seed)[0] for seed in range(3)]
    labels = binary(1.0, 0)[1]
    repeated = run_of(parts, labels, keys="repeat")
    other = run_of([parts[0]], labels)
    (found,) = compare_runs([other, repeated], ["one", "mean"], QUICK)
    expected = np.mean([roc_auc_score(labels, part[:, 1]) for part in parts])
    assert found.value_second == pytest.approx(expected)
    assert found.p_delong is None


def test_metrics_that_a_run_does_not_have_are_refused() -> None:
    random = np.random.default_rng(0)
    labels = (random.random((60, 3)) < 0.4).astype(int)
    run = run_of([random.random((60, 3))], labels, "multilabel")
    with pytest.raises(ProtocolError, match=r"no balanced_accuracy.*\n.*auroc"):
        compare_runs([run, run], ["a", "b"], Question("balanced_accuracy", resamples=20))
    with pytest.raises(UnknownNameError, match="class"):
        compare_runs([run, run], ["a", "b"], Question(class_name="d", resamples=20))
    with pytest.raises(ProtocolError, match="1 run"):
        compare_runs([run], ["a"])
    (found,) = compare_runs([run, run], ["a", "b"], Question(class_name="b", resamples=50))
    assert found.value_first == pytest.approx(
        roc_auc_score(labels[:, 1], run.predictions[0].scores[:, 1])
    )
    assert found.p_delong == 1.0


def test_a_class_that_a_binary_run_does_not_have_is_refused() -> None:
    scores, labels = binary(1.0, 0)
    runs = [run_of([scores], labels), run_of([scores], labels)]
    with pytest.raises(UnknownNameError, match="nosuch"):
        compare_runs(runs, ["a", "b"], Question(class_name="nosuch", resamples=100))
    (found,) = compare_runs(runs, ["a", "b"], Question(class_name="yes", resamples=100))
    assert "AUROC of yes" in found.verdict


@pytest.mark.parametrize("name", ["kk", ""])
def test_a_setting_that_no_run_has_is_refused(name: str) -> None:
    scores, labels = binary(1.0, 0)
    runs = [run_of([scores], labels), run_of([scores], labels)]
    with pytest.raises(UnknownNameError, match="these runs have k"):
        compare_runs(runs, ["a", "b"], QUICK, {name: 5})
