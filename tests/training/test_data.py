"""Images, augmentation, order and scores of classification."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.studies.read import read_study
from dinorad_rt.training.augment import augmentation, minmax
from dinorad_rt.training.classifier import LinearHead, per_sample
from dinorad_rt.training.classify_data import TrainingImages, epoch_order, spread
from dinorad_rt.training.images import ImageBank
from dinorad_rt.training.probe import standardise, start_from_probe
from dinorad_rt.training.schedule import lr_factor
from dinorad_rt.training.scores import probabilities, validation_metrics
from dinorad_rt.training.settings import TrainSettings

SPEC = PreprocessSpec(image_size=24, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))


@pytest.fixture
def samples(images: Any, tmp_path: Path, cache: Path) -> Any:
    return open_dataset(images(tmp_path / "images", count=10)).samples


WINDOWS = ((50.0, 100.0), (100.0, 60.0), (150.0, 200.0))


@pytest.mark.parametrize("spec", [SPEC, replace(SPEC, intensity="window", windows=WINDOWS)])
def test_the_bank_holds_what_preprocessing_gives(spec: PreprocessSpec, samples: Any) -> None:
    bank = ImageBank(samples, spec, workers=1)
    wanted = [Preprocessor(spec)(read_study(sample.path)) for sample in samples]
    torch.testing.assert_close(
        bank.rows(range(10)), torch.from_numpy(np.stack(wanted)), atol=1e-5, rtol=0
    )


def test_the_processes_of_a_machine_share_its_memory(
    samples: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = SPEC.image_size**2 * 4
    monkeypatch.setattr("dinorad_rt.machine.memory_gib", lambda: 4 * 8 * row / 2**30)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert len(ImageBank(samples, SPEC, workers=1)._held) == 4


def test_what_does_not_fit_into_memory_is_the_same_from_the_file(samples: Any) -> None:
    whole = ImageBank(samples, SPEC, workers=1)
    spilled = ImageBank(samples, SPEC, workers=1, limit=3 * 24 * 24 * 4)
    assert len(spilled._held) == 3
    assert torch.equal(whole.rows(range(10)), spilled.rows(range(10)))


def test_unreadable_images_are_counted_and_left_out(samples: Any) -> None:
    samples[4].path.write_bytes(b"\x89PNG\r\n\x1a\nno image")
    bank = ImageBank(samples, SPEC, workers=1)
    assert len(bank) == 9 and sum(bank.failed.values()) == 1
    assert bank.samples == (*samples[:4], *samples[5:])


def test_augmentation_is_a_function_of_its_seed(samples: Any) -> None:
    bank = ImageBank(samples, SPEC, workers=1)
    augment = augmentation("strong", 24, flip=True)
    made = TrainingImages(bank, augment, None)
    one, again = (made.sample(2, seed=7, epoch=3)["pixels"] for _ in range(2))
    other = made.sample(2, seed=7, epoch=4)["pixels"]
    assert torch.equal(one, again) and not torch.equal(one, other)
    assert one.shape == (1, 1, 24, 24) and one.min() >= 0 and one.max() <= 1


def test_left_and_right_are_swapped_and_never_up_and_down() -> None:
    """The study's segmentation flips up and down where left and right were meant."""
    image = torch.arange(16.0).reshape(1, 4, 4) / 15
    flip = augmentation("none", 4, flip=True)
    assert flip is not None and augmentation("none", 4) is None
    torch.manual_seed(0)
    seen = {tuple(flip(image).flatten().tolist()) for _ in range(30)}
    assert seen == {tuple(image.flatten().tolist()), tuple(image.flip(-1).flatten().tolist())}


def test_minmax_of_a_constant_image_is_zero_and_not_nan() -> None:
    assert torch.equal(minmax(torch.full((1, 4, 4), 0.7)), torch.zeros(1, 4, 4))


def test_an_epoch_has_every_sample_once_in_even_batches() -> None:
    batches = epoch_order(50, 16, seed=1, epoch=2)
    assert sorted(i for batch in batches for i in batch) == list(range(50))
    assert {len(batch) for batch in batches} == {12, 13}
    assert epoch_order(50, 16, 1, 2) == batches != epoch_order(50, 16, 1, 3)


def test_slices_are_spread_over_the_volume() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        chosen = spread(range(100, 130), 5)
        assert len(set(chosen)) == 5 and min(chosen) >= 100 and max(chosen) < 130
        assert set(np.diff(chosen)) == {6}
    assert spread(range(3), 5) == [0, 1, 2]


def test_rows_of_a_sample_are_meaned() -> None:
    rows = torch.tensor([[1.0], [3.0], [10.0], [20.0]])
    found = per_sample(rows, torch.tensor([0, 0, 2, 1]), 3)
    assert found.flatten().tolist() == [2.0, 20.0, 10.0]


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_validation_metrics_are_those_of_scikit_learn(task: Any) -> None:
    from scipy.special import expit, softmax
    from sklearn.metrics import balanced_accuracy_score, roc_auc_score

    rng = np.random.default_rng(0)
    classes = 2 if task == "binary" else 4
    logits = rng.standard_normal((60, classes))
    if task == "multilabel":
        labels = rng.integers(0, 2, (60, classes))
        scores, wanted = expit(logits), roc_auc_score(labels, logits, average="macro")
    else:
        labels = rng.integers(0, classes, 60)
        scores = softmax(logits, axis=1)
        wanted = (
            roc_auc_score(labels, scores[:, 1])
            if task == "binary"
            else roc_auc_score(labels, scores, multi_class="ovr")
        )
    np.testing.assert_allclose(probabilities(logits, task), scores)
    found = validation_metrics(logits, labels, task)
    assert found["auroc"] == pytest.approx(wanted)
    if task != "multilabel":
        balanced = balanced_accuracy_score(labels, scores.argmax(1))
        assert found["balanced_accuracy"] == pytest.approx(balanced)


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_head_starts_as_the_logistic_regression(task: Any) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(1)
    classes = 2 if task == "binary" else 3
    labels = rng.integers(0, classes, 80)
    x = (rng.standard_normal((80, 6)) + 0.8 * labels[:, None] * np.arange(6)).astype(np.float32)
    head = LinearHead(6, classes)
    standardise(head, x)
    strength = start_from_probe(head, (x, labels), (x[:30], labels[:30]), task)
    scaler = StandardScaler().fit(x)
    model = LogisticRegression(C=strength, class_weight="balanced", max_iter=500)
    wanted = model.fit(scaler.transform(x), labels).predict_proba(scaler.transform(x))
    with torch.no_grad():
        logits = head(torch.from_numpy(x))
        folded = head.folded()(torch.from_numpy(x))
    np.testing.assert_allclose(probabilities(logits.numpy(), task), wanted, atol=2e-3)
    torch.testing.assert_close(folded, logits, atol=1e-4, rtol=1e-4)


def test_a_head_starts_at_zero_where_one_class_is_seen_alone() -> None:
    """Of a large split every few samples are looked at, and a rare class may lie between them."""
    x = np.random.default_rng(1).standard_normal((6, 3)).astype(np.float32)
    head = LinearHead(3, 2)
    start_from_probe(head, (x, np.zeros(6, int)), (x, np.arange(6) % 2), "binary")
    assert not head.weight.any() and not head.bias.any()


def test_the_schedule_is_pytorchs_cosine_after_a_linear_warm_up() -> None:
    settings = TrainSettings(warmup=0.1, final_lr=0.0)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=1.0)
    cosine = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=90)
    assert [lr_factor(step, 100, settings) for step in (0, 4, 9)] == [0.1, 0.5, 1.0]
    for step in range(10, 100):
        assert lr_factor(step, 100, settings) == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        cosine.step()
