"""What is refused or loudly said of splits and embeddings, before any metric is computed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import LeakageError, ProtocolError, UnknownNameError
from dinorad_rt.protocols.embedding_checks import check_finite, near_copies
from dinorad_rt.protocols.pooling import pool
from dinorad_rt.protocols.registry import PROTOCOL_PRESETS, PROTOCOLS, settings_for
from dinorad_rt.protocols.selection import choose, score, with_validation
from dinorad_rt.protocols.truth import check_truth, truth_of_tables

Make = Callable[..., EmbeddingTable]
LABELS = np.arange(24) % 2
INFO = DatasetInfo("toy", "binary", ("no", "yes"))


def splits(make: Make, **changes: EmbeddingTable) -> dict[str, EmbeddingTable]:
    tables = {
        split: make(LABELS, split, seed=i) for i, split in enumerate(("train", "val", "test"))
    }
    return tables | changes


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_patient_in_two_splits_is_refused(make_table: Make, split: str) -> None:
    tables = splits(make_table)
    names = tables["test"].patients.copy()
    names[:2] = tables[split].patients[0]
    tables["test"] = replace(tables["test"], patients=names)
    with pytest.raises(LeakageError, match=f"1 patient stands in {split} and in test"):
        check_truth(truth_of_tables(tables, INFO))  # type: ignore[arg-type]
    check_truth(truth_of_tables(splits(make_table), INFO))  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("where", ["cls", "patch_mean"])
def test_embeddings_that_are_not_finite_are_named(
    make_table: Make, where: str, value: float
) -> None:
    tables = splits(make_table)
    part = getattr(tables["val"], where)
    part[[3, 7]] = value
    with pytest.raises(ProtocolError, match=r"2 of 24 val .* row 3 \(val3\), row 7 \(val7\)"):
        check_finite(tables)  # type: ignore[arg-type]


def test_zero_embeddings_are_named(make_table: Make) -> None:
    tables = splits(make_table)
    tables["train"].cls[5] = 0
    with pytest.raises(ProtocolError, match=r"row 5 \(train5\)"):
        check_finite(tables)  # type: ignore[arg-type]


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_copies_across_splits_are_said_aloud(make_table: Make, noise: float) -> None:
    """Byte-identical images have one embedding; recompressed ones nearly so."""
    tables = splits(make_table)
    assert near_copies(tables) == []  # type: ignore[arg-type]
    random = np.random.default_rng(0)
    tables["test"].cls[4] = tables["train"].cls[9] + noise * random.standard_normal((4, 12))
    (note,) = near_copies(tables)  # type: ignore[arg-type]
    assert "1 of 24 test images have a copy or near copy in train" in note
    assert "test4 ~ train9" in note


def test_embeddings_that_all_lie_together_are_no_copies(make_table: Make) -> None:
    """As those of random weights do: a common direction and little else."""
    tables = splits(make_table)
    for table in tables.values():
        table.cls[:] += 20.0
    assert near_copies(tables) == []  # type: ignore[arg-type]
    tables["test"].cls[0] = tables["val"].cls[0]
    assert len(near_copies(tables)) == 1  # type: ignore[arg-type]


def test_test_rows_of_one_class_are_refused(make_table: Make) -> None:
    test = replace(splits(make_table)["test"], labels=np.zeros(24, np.int64))
    with pytest.raises(ProtocolError, match="same labels"):
        check_truth(truth_of_tables(splits(make_table, test=test), INFO))  # type: ignore[arg-type]


def test_training_rows_of_one_class_are_refused_where_something_is_learned(
    make_table: Make,
) -> None:
    ones = {
        split: replace(splits(make_table)[split], labels=LABELS * 0) for split in ("train", "val")
    }
    truth = truth_of_tables(splits(make_table, **ones), INFO)  # type: ignore[arg-type]
    for protocol in ("logistic", "linear"):
        with pytest.raises(ProtocolError, match="nothing to learn"):
            settings_for(protocol).check(truth)


@pytest.mark.parametrize("protocol", sorted(PROTOCOLS))
@pytest.mark.parametrize("preset", PROTOCOL_PRESETS)
def test_every_protocol_has_every_preset_and_says_all_it_chose(protocol: str, preset: str) -> None:
    settings = settings_for(protocol, preset)
    assert settings.preset_name == preset
    assert settings.as_dict()["resamples"] == (2_000 if protocol == "few-shot" else 10_000)
    assert settings_for(protocol, preset, {"resamples": 50}).resamples == 50
    with pytest.raises(UnknownNameError, match="setting"):
        settings_for(protocol, preset, {"resample": 50})


def test_unknown_names_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="protocol"):
        settings_for("kmn")
    with pytest.raises(UnknownNameError, match="preset"):
        settings_for("knn", "paper")


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("ks", "5,20", (5, 20)),
        ("ks", "none", None),
        ("temperature", "0.1", 0.1),
        ("resamples", "100", 100),
        ("pooling", "max", "max"),
    ],
)
def test_settings_are_read_from_text(name: str, text: str, value: object) -> None:
    assert PROTOCOLS["knn"].settings_class().parsed(name, text) == value


def test_texts_of_another_type_are_refused() -> None:
    settings = PROTOCOLS["linear"].settings_class()
    assert settings.parsed("retrain", "no") is False
    with pytest.raises(ProtocolError, match="epochs = 'many'"):
        settings.parsed("epochs", "many")
    with pytest.raises(ProtocolError, match="retrain"):
        settings.parsed("retrain", "maybe")
    with pytest.raises(UnknownNameError):
        settings.parsed("epoch", "3")


def test_none_is_a_value_where_it_is_one() -> None:
    linear = settings_for("linear", options={"epoch_length": None, "epochs": None})
    assert (linear.epoch_length, linear.epochs) == (None, 10)  # type: ignore[attr-defined]


def test_attention_needs_a_trained_head() -> None:
    with pytest.raises(ProtocolError, match="linear"):
        settings_for("knn", options={"pooling": "attention"})
    assert settings_for("linear", options={"pooling": "attention"}).pooling == "attention"


def test_patients_are_judged_as_one(make_table: Make) -> None:
    labels = np.repeat(np.arange(12) % 2, 2)
    table = make_table(labels, "test")
    settings = settings_for("knn", options={"unit": "patient"})
    pooled = pool(table, settings)
    assert len(pooled) == 12
    np.testing.assert_allclose(pooled.cls[0], table.cls[:2].mean(axis=0), rtol=1e-5)
    with pytest.raises(ProtocolError, match="12 of 12 patients have images of different classes"):
        pool(make_table(LABELS, "test"), settings)
    hot = pool(make_table((np.arange(24)[:, None] % 4 == [0, 1]).astype(int), "test"), settings)
    assert hot.labels.sum(axis=1).tolist() == [2, 0] * 6


def test_metrics_that_do_not_fit_the_task_are_refused(make_table: Make) -> None:
    hot = (np.random.default_rng(0).random((24, 3)) < 0.5).astype(int)
    with pytest.raises(ProtocolError, match="multi-label"):
        score(np.zeros((24, 3)), hot, "multilabel", "balanced_accuracy")
    tables = {split: make_table(hot, split) for split in ("train", "val", "test")}
    truth = truth_of_tables(tables, replace(INFO, task="multilabel", class_names=tuple("abc")))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="multi-label"):
        settings_for("linear", options={"select_by": "balanced_accuracy"}).check(truth)


def test_equal_candidates_leave_the_first() -> None:
    good = np.stack([1 - LABELS, LABELS], axis=1).astype(float)
    assert choose([good * 0.5, good, good * 0.9], LABELS, "binary", "auroc")[0] == 0
    with pytest.raises(ProtocolError, match="undefined on the 24 validation images"):
        choose([good], LABELS * 0, "binary", "auroc")


def test_validation_is_cut_by_patient(make_table: Make) -> None:
    train = make_table(LABELS, "train")
    fitting, choosing, notes = with_validation(train, train.take(slice(0, 0)), INFO, 0)
    assert len(fitting) + len(choosing) == 24
    assert not set(fitting.patients) & set(choosing.patients)
    assert "test chose nothing" in notes[0]
    again = with_validation(train, train.take(slice(0, 0)), INFO, 0)[1]
    np.testing.assert_array_equal(choosing.sample_ids, again.sample_ids)
