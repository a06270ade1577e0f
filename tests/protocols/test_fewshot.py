"""Which rows few-shot protocols see, that nothing leaks into them, and how repeats are judged."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.fewshot import FewShotSettings, evaluate_few_shot
from dinorad_rt.protocols.shots import random_subset, study_subset, units_per_class
from dinorad_rt.protocols.truth import Truth

Make = Callable[..., EmbeddingTable]
LABELS = np.arange(80) % 2
INFO = DatasetInfo("toy", "binary", ("no", "yes"))


def hot_of(labels: np.ndarray) -> np.ndarray:
    return labels[:, None] == np.arange(labels.max() + 1)


@pytest.mark.parametrize("by", ["patient", "image"])
@pytest.mark.parametrize("shots", [1, 3, 8])
def test_each_class_gets_its_shots(by: str, shots: int) -> None:
    labels = np.repeat(np.arange(30) % 3, 2)  # two images per patient
    patients = np.repeat([f"p{i}" for i in range(30)], 2)
    rows = random_subset(hot_of(labels), patients, shots, by=by, seed=0)  # type: ignore[arg-type]
    for c in range(3):
        mine = rows[labels[rows] == c]
        counted = np.unique(patients[mine]) if by == "patient" else mine
        assert len(counted) == shots
    if by == "patient":  # with all their images
        assert np.isin(patients, patients[rows]).sum() == len(rows)


def test_subsets_are_seeded_and_nested() -> None:
    hot, patients = hot_of(np.arange(60) % 2), np.arange(60).astype(str)
    few, again, other, more = (
        random_subset(hot, patients, shots, by="patient", seed=seed)
        for shots, seed in ((2, 0), (2, 0), (2, 1), (4, 0))
    )
    np.testing.assert_array_equal(few, again)
    assert not np.array_equal(few, other)
    assert set(few) <= set(more)


def test_the_studys_rule_for_multilabel_sets() -> None:
    """First patients whose images all show the class, in order, none twice (PROTOCOLS 2.4)."""
    patients = np.array(list("aabbccdd"))
    hot = np.array(
        [[1, 0], [0, 0], [1, 1], [1, 0], [1, 1], [1, 1], [0, 1], [0, 1]], dtype=bool
    )  # a: none always; b: class 0; c: both; d: class 1
    assert study_subset(hot, patients, 1, by_class=True).tolist() == [2, 3, 4, 5]
    assert study_subset(hot, patients, 2, by_class=True).tolist() == [2, 3, 4, 5, 6, 7]


def test_the_studys_rule_for_other_sets_is_evenly_spaced() -> None:
    hot, patients = hot_of(np.arange(10) % 2), np.arange(10).astype(str)
    expected = np.arange(0, 10, 10 / 4).round().astype(int)
    np.testing.assert_array_equal(study_subset(hot, patients, 4, by_class=False), expected)


def test_counting_patients_and_images() -> None:
    hot, patients = np.array([[1, 0], [1, 0], [0, 1]], bool), np.array(["a", "a", "b"])
    assert units_per_class(hot, patients, "patient").tolist() == [1, 1]
    assert units_per_class(hot, patients, "image").tolist() == [2, 1]


def test_more_shots_than_patients_are_refused() -> None:
    truth = Truth(
        "toy",
        "binary",
        ("no", "yes"),
        {"train": np.array([0, 0, 0, 1, 1]), "val": np.empty(0, int), "test": np.array([0, 1])},
        {"train": np.array(list("abcde")), "val": np.empty(0, str), "test": np.array(["x", "y"])},
    )
    with pytest.raises(ProtocolError, match="2 patients of yes") as error:
        FewShotSettings(shots=(1, 4)).check(truth)
    assert "up to 2" in error.value.fix
    FewShotSettings(shots=(1, 2)).check(truth)
    FewShotSettings().check(truth)
    with pytest.raises(ProtocolError, match="5 training images"):
        FewShotSettings.preset("study").changed({"shots": (6,)}).check(truth)


@pytest.mark.parametrize("head", ["knn", "logistic", "linear"])
def test_validation_never_becomes_training_data(
    make_table: Make, head: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row that a head is fitted on is a drawn training row."""
    seen: list[EmbeddingTable] = []
    import dinorad_rt.protocols.fewshot as module

    before = dict(module._HEADS)
    monkeypatch.setitem(
        module._HEADS,
        head,
        lambda parts, *rest: (seen.append(parts[0]), before[head](parts, *rest))[1],
    )
    train, val, test = (make_table(LABELS, split, seed=i) for i, split in enumerate("abc"))
    settings = FewShotSettings(shots=(1, 4), repeats=2, resamples=20).changed({"head": head})
    evaluate_few_shot(train, val, test, INFO, settings)
    assert len(seen) == 4
    for table in seen:
        assert set(table.splits) == {"a"}


def test_repeats_give_their_values_their_mean_and_an_interval(make_table: Make) -> None:
    train, val, test = (
        make_table(LABELS, split, seed=i, strength=0.1) for i, split in enumerate("abc")
    )
    settings = FewShotSettings(shots=(2,), repeats=4, resamples=300)
    results = evaluate_few_shot(train, val, test, INFO, settings, seed=3)
    value = results.metric("auroc", shots=2)
    expected = [roc_auc_score(LABELS, item.scores[:, 1]) for item in results.predictions]
    np.testing.assert_allclose(value.values, expected)
    assert value.value == pytest.approx(np.mean(expected))
    assert value.ci_low < value.value < value.ci_high  # type: ignore[operator]
    assert results.seeds == (3, 4, 5, 6)
    assert evaluate_few_shot(train, val, test, INFO, settings, seed=3).metrics == results.metrics


def test_the_interval_covers_repeats_as_well_as_patients(make_table: Make) -> None:
    train, val, test = (
        make_table(LABELS, split, seed=i, strength=0.1) for i, split in enumerate("abc")
    )
    several = evaluate_few_shot(
        train, val, test, INFO, FewShotSettings(shots=(1,), repeats=5, resamples=500)
    ).metric("auroc", shots=1)
    spread = np.ptp([v for v in several.values if v is not None])
    assert several.ci_high - several.ci_low > spread / 5  # type: ignore[operator]


def test_seed_0_is_a_seed(make_table: Make) -> None:
    train, val, test = (make_table(LABELS, split, seed=i) for i, split in enumerate("abc"))
    settings = FewShotSettings(shots=(1,), repeats=1, resamples=20)
    zero, again, one = (
        evaluate_few_shot(train, val, test, INFO, settings, seed=seed).predictions[0].scores
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(zero, again)
    assert not np.array_equal(zero, one)


def test_presets(make_table: Make) -> None:
    assert FewShotSettings.preset("study").repeats == 1
    assert FewShotSettings.preset("study").head == "linear"
    assert FewShotSettings.preset("dinov2").by == "image"
    with pytest.raises(ProtocolError, match="repeats"):
        FewShotSettings(subsets="study")
    train, val, test = (make_table(LABELS, split, seed=i) for i, split in enumerate("abc"))
    settings = FewShotSettings.preset("study").changed({"shots": (4,), "resamples": 20})
    results = evaluate_few_shot(train, val, test, INFO, settings)
    assert results.settings["training_images"] == {"4": [4]}


def test_shots_that_add_nothing_are_not_run(make_table: Make) -> None:
    patient = np.arange(40)[:, None] // 2
    labels = (patient < [8, 16]).astype(int)  # 8 shots of each take all there are
    train, val, test = (make_table(labels, split, seed=i) for i, split in enumerate("abc"))
    info = DatasetInfo("toy", "multilabel", ("a", "b"))
    results = evaluate_few_shot(train, val, test, info, FewShotSettings(resamples=20, repeats=1))
    assert max(results.settings["shots"]) < 16
    assert any("given all it has" in note for note in results.notes)
    assert any(note.startswith("4 of 20 training patients show none") for note in results.notes)
