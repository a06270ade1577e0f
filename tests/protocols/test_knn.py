"""The soft vote against scikit-learn's classifier with the same weights, and whole evaluations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, balanced_accuracy_score, roc_auc_score
from sklearn.neighbors import KNeighborsClassifier

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.knn import KNNClassifier, KNNSettings
from dinorad_rt.protocols.knn import evaluate_knn as evaluate_splits
from dinorad_rt.reports.results import Results


def blobs(classes: int, rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping classes."""
    random = np.random.default_rng(seed)
    labels = random.permutation(np.arange(rows) % classes)
    centres = np.random.default_rng(99).standard_normal((classes, 16)) * 0.7
    points = centres[labels] + random.standard_normal((rows, 16))
    return points.astype(np.float32), labels


def table(points: np.ndarray, labels: np.ndarray, split: str) -> EmbeddingTable:
    """An embedding table; every two images share a patient."""
    names = np.array([f"{split}{i}" for i in range(len(points))], dtype=object)
    patients = np.array([f"{split}-p{i // 2}" for i in range(len(points))], dtype=object)
    earlier = np.zeros_like(points)
    return EmbeddingTable(
        names, patients, np.full(len(points), split), labels, np.stack([earlier, points], axis=1)
    )


def evaluate_knn(
    reference: EmbeddingTable,
    queries: EmbeddingTable,
    info: DatasetInfo,
    ks: tuple[int, ...],
    **settings: object,
) -> Results:
    """Without a val split."""
    chosen = KNNSettings(ks=ks).changed({"resamples": 50} | settings)
    return evaluate_splits(reference, reference.take(slice(0, 0)), queries, info, chosen)


@pytest.mark.parametrize("classes", [2, 3, 11])
@pytest.mark.parametrize("k", [1, 20])
def test_scores_equal_scikit_learn_with_the_same_vote(classes: int, k: int) -> None:
    points, labels = blobs(classes, 400, 0)
    queries, _ = blobs(classes, 90, 1)
    theirs = KNeighborsClassifier(
        k, metric="cosine", algorithm="brute", weights=lambda d: np.exp((1 - d) / 0.07)
    ).fit(points, labels)
    ours = KNNClassifier(k).fit(points, labels)
    np.testing.assert_allclose(
        ours.predict_proba(queries), theirs.predict_proba(queries), atol=1e-5
    )
    np.testing.assert_array_equal(ours.predict(queries), theirs.predict(queries))


def test_the_vote_is_dinov2s_formula() -> None:
    """PROTOCOLS 2.1: softmax of the k highest cosines over T = 0.07, summed per class."""
    points, labels = blobs(3, 200, 0)
    queries, _ = blobs(3, 30, 1)
    left, right = (
        torch.nn.functional.normalize(torch.from_numpy(rows), dim=1) for rows in (queries, points)
    )
    for k in (1, 10, 100):
        top = (left @ right.T).topk(k, dim=1)
        weights = (top.values / 0.07).softmax(dim=1)
        hot = torch.nn.functional.one_hot(torch.from_numpy(labels)[top.indices], 3)
        expected = (weights[:, :, None] * hot).sum(dim=1)
        ours = KNNClassifier(k).fit(points, labels).predict_proba(queries)
        np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_multilabel_vote_is_one_vote_per_label() -> None:
    points, labels = blobs(4, 300, 0)
    hot = np.stack([labels % 2, labels // 2], axis=1)
    queries, _ = blobs(4, 40, 1)
    both = KNNClassifier(9).fit(points, hot).predict_proba(queries)
    for label in range(2):
        alone = KNNClassifier(9).fit(points, hot[:, label]).predict_proba(queries)
        np.testing.assert_allclose(both[:, label], alone[:, 1])


@pytest.mark.parametrize("classes", [2, 5])
def test_metrics_equal_scikit_learn(classes: int) -> None:
    info = DatasetInfo(
        "blobs", "binary" if classes == 2 else "multiclass", tuple("abcde"[:classes])
    )
    reference, queries = blobs(classes, 200, 0), blobs(classes, 80, 1)
    results = evaluate_knn(
        table(*reference, "train"), table(*queries, "test"), info, (5, 20), resamples=50
    )
    for k in (5, 20):
        scores = KNNClassifier(k).fit(*reference).predict_proba(queries[0])
        truth = queries[1]
        if classes == 2:
            auroc = roc_auc_score(truth, scores[:, 1])
        else:
            auroc = roc_auc_score(truth, scores, multi_class="ovr", average="macro")
        value = results.metric("auroc", k=k)
        assert value.value == pytest.approx(auroc)
        assert value.ci_low <= value.value <= value.ci_high
        assert (value.n, value.n_patients) == (80, 40)
        balanced = balanced_accuracy_score(truth, scores.argmax(axis=1))
        assert results.metric("balanced_accuracy", k=k).value == pytest.approx(balanced)


def test_absent_classes_are_excluded_listed_and_never_zero() -> None:
    random = np.random.default_rng(0)
    points = random.standard_normal((120, 8)).astype(np.float32)
    labels = random.integers(0, 2, (120, 3))
    truth = labels[:40].copy()
    truth[:, 1] = 0
    info = DatasetInfo("multi", "multilabel", ("nodule", "hernia", "mass"))
    results = evaluate_knn(
        table(points[40:], labels[40:], "train"),
        table(points[:40], truth, "test"),
        info,
        (5,),
        resamples=50,
    )
    assert list(results.excluded_classes) == ["hernia"]
    shown = [results.metric("auroc", name, k=5).value for name in ("nodule", "mass")]
    assert results.metric("auroc", k=5).value == pytest.approx(np.mean(shown))
    scores = KNNClassifier(5).fit(points[40:], labels[40:]).predict_proba(points[:40])
    expected = average_precision_score(truth[:, [0, 2]], scores[:, [0, 2]], average="macro")
    assert results.metric("average_precision", k=5).value == pytest.approx(expected)


def test_one_class_in_test_is_refused() -> None:
    points, labels = blobs(2, 60, 0)
    info = DatasetInfo("blobs", "binary", ("a", "b"))
    with pytest.raises(ProtocolError, match="at least two classes"):
        evaluate_knn(table(points, labels, "train"), table(points, labels * 0, "test"), info, (3,))


def test_k_beyond_the_reference_is_refused() -> None:
    points, labels = blobs(2, 30, 0)
    info = DatasetInfo("blobs", "binary", ("a", "b"))
    with pytest.raises(ProtocolError, match="k = 31"):
        evaluate_knn(table(points, labels, "train"), table(points, labels, "test"), info, (31,))


def test_equally_certain_queries_are_ties_and_not_ranked_by_rounding() -> None:
    random = np.random.default_rng(0)
    centres = np.repeat([[2.0], [-2.0]], 200, axis=0)
    points = (centres + random.standard_normal((400, 16))).astype(np.float32)
    labels = np.repeat([0, 1], 200)
    for k in (5, 20, 100):
        scores = KNNClassifier(k).fit(points, labels).predict_proba(points)
        assert set(scores.ravel()) == {0.0, 1.0}


def test_chunks_of_the_vote_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points, labels = blobs(5, 300, 0)
    whole = KNNClassifier(9).fit(points, labels).predict_proba(points)
    monkeypatch.setattr("dinorad_rt.protocols.knn._CHUNK_VALUES", 100)
    parts = KNNClassifier(9).fit(points, labels).predict_proba(points)
    np.testing.assert_array_equal(whole, parts)


def test_a_k_given_twice_is_judged_once() -> None:
    points, labels = blobs(2, 60, 0)
    info = DatasetInfo("blobs", "binary", ("a", "b"))
    rows = table(points, labels, "test")
    results = evaluate_knn(rows, rows, info, (5, 3, 5), resamples=20)
    assert [item.setting["k"] for item in results.predictions] == [3, 5]


@pytest.mark.parametrize(("k", "temperature"), [(0, 0.07), (-3, 0.07), (5, 0.0), (5, -1.0)])
def test_settings_that_cannot_vote_are_refused(k: int, temperature: float) -> None:
    points, labels = blobs(2, 60, 0)
    info = DatasetInfo("blobs", "binary", ("a", "b"))
    rows = table(points, labels, "test")
    with pytest.raises(ProtocolError, match=f"ks = {k}" if k < 1 else "above 0"):
        evaluate_knn(rows, rows, info, (k,), temperature=temperature)


def test_a_perfect_score_is_not_sold_as_certainty() -> None:
    points = np.array([[1, 0], [0, 1]], dtype=np.float32).repeat(40, axis=0)
    info = DatasetInfo("easy", "binary", ("a", "b"))
    rows = table(points, np.repeat([0, 1], 40), "test")
    results = evaluate_knn(rows, rows, info, (3,), resamples=50)
    assert results.metric("auroc", k=3).ci_low == 1.0
    assert any("zero width" in note for note in results.notes)
