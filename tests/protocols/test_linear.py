"""Heads trained at once against PyTorch's own layers and optimiser, one head after another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from dinorad_rt.embeddings.table import DatasetInfo, EmbeddingTable
from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.attention import train_attention
from dinorad_rt.protocols.heads import (
    Head,
    Plan,
    batches,
    columns_of,
    head_input,
    start_weights,
    train_heads,
)
from dinorad_rt.protocols.linear import DINOV2_RATES, LinearSettings, evaluate_linear
from dinorad_rt.protocols.linear_probe import LinearProbe, targets_of
from dinorad_rt.protocols.pooling import pool_slices
from dinorad_rt.types import Task

Make = Callable[..., EmbeddingTable]
GRID = [Head(b, mean, rate) for b in (1, 4) for mean in (False, True) for rate in (1e-3, 0.05)]


def by_pytorch(
    X: np.ndarray, targets: np.ndarray, head: Head, plan: Plan, task: Task, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """One head by nn.Linear, torch.optim.SGD and CosineAnnealingLR: weight and bias."""
    start, stop = columns_of(head, 4, dim)
    layer = torch.nn.Linear(stop - start, targets.shape[1])
    with torch.no_grad():
        layer.weight.copy_(
            torch.from_numpy(
                start_weights(head, (stop - start, targets.shape[1]), plan.seed).T.copy()
            )
        )
        layer.bias.zero_()
    optimiser = torch.optim.SGD(layer.parameters(), lr=head.learning_rate, momentum=plan.momentum)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.steps)
    rows, truth = torch.from_numpy(X[:, start:stop].copy()), torch.from_numpy(targets)
    for index in batches(len(X), plan):
        logits, wanted = layer(rows[index]), truth[index]
        bce = torch.nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        if task == "multiclass":
            loss = torch.nn.functional.cross_entropy(logits, wanted.argmax(dim=1))
        elif plan.loss == "study" and task == "multilabel":
            loss = bce.sum() / targets.shape[1]
        elif plan.loss == "mean" and task == "multilabel":
            loss = bce.mean()
        else:
            loss = bce.sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return layer.weight.detach().numpy().T, layer.bias.detach().numpy()


def labels_of(task: Task, rows: int) -> np.ndarray:
    if task == "multilabel":
        return (np.random.default_rng(3).random((rows, 5)) < 0.3).astype(np.int64)
    return np.arange(rows) % (2 if task == "binary" else 3)


@pytest.mark.parametrize(
    ("task", "loss"),
    [
        ("binary", "per-label"),
        ("multiclass", "per-label"),
        ("multilabel", "per-label"),
        ("multilabel", "mean"),
        ("multilabel", "study"),
    ],
)
def test_heads_at_once_equal_pytorch_one_by_one(make_table: Make, task: Task, loss: str) -> None:
    labels = labels_of(task, 90)
    table = make_table(labels, "train")
    X = head_input(table, 4)
    hot = labels if labels.ndim == 2 else np.eye(labels.max() + 1)[labels]
    targets = targets_of(hot, task)
    plan = Plan(60, batch_size=32, loss=loss, seed=5)  # type: ignore[arg-type]
    trained = train_heads(X, targets, GRID, plan, dim=12, task=task)
    for place, head in enumerate(GRID):
        weight, bias = by_pytorch(X, targets, head, plan, task, 12)
        np.testing.assert_allclose(trained.weights[place], weight, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(trained.biases[place], bias, rtol=2e-4, atol=2e-5)


def test_a_head_does_not_depend_on_its_company(make_table: Make) -> None:
    labels = labels_of("multiclass", 60)
    X = head_input(make_table(labels, "train"), 4)
    targets = targets_of(np.eye(3)[labels], "multiclass")
    plan = Plan(40, batch_size=16)
    together = train_heads(X, targets, GRID, plan, dim=12, task="multiclass")
    for place in (5, 7):  # those that read all four blocks
        alone = train_heads(X, targets, [GRID[place]], plan, dim=12, task="multiclass")
        np.testing.assert_allclose(alone.weights[0], together.weights[place], atol=1e-6)


def test_input_of_a_head_is_the_studys(make_table: Make) -> None:
    """Class tokens of the last n blocks, then the patch mean (PROTOCOLS 2.3)."""
    table = make_table(labels_of("binary", 6), "train")
    X = head_input(table, 4)
    for head in GRID:
        start, stop = columns_of(head, 4, 12)
        expected = table.cls[:, -head.blocks :].reshape(6, -1)
        if head.patch_mean:
            expected = np.hstack([expected, table.patch_mean])
        np.testing.assert_array_equal(X[:, start:stop], expected)


def test_presets_are_the_published_grids(make_table: Make) -> None:
    table = make_table(labels_of("binary", 300), "train")
    study, _ = LinearSettings.preset("study").heads(table)
    dinov2, _ = LinearSettings.preset("dinov2").heads(table)
    assert (len(study), len(dinov2)) == (16, 52)
    assert {head.learning_rate for head in study} == {1e-3, 5e-3, 1e-2, 5e-2}
    assert {head.learning_rate for head in dinov2} == {rate * 128 / 256 for rate in DINOV2_RATES}
    assert LinearSettings.preset("dinov2").plan(300, 0).steps == 12_500
    assert LinearSettings.preset("study").plan(300, 0).steps == 10 * 3


def test_grids_shrink_for_backbones_without_patches(make_table: Make) -> None:
    table = make_table(labels_of("binary", 40), "train", blocks=1, patch_mean=False)
    heads, notes = LinearSettings.preset("study").heads(table)
    assert {(head.blocks, head.patch_mean) for head in heads} == {(1, False)}
    assert len(heads) == 4
    assert any("no patch tokens" in note for note in notes)


def test_the_probe_learns_what_can_be_learned(make_table: Make) -> None:
    labels = labels_of("multiclass", 120)
    points = make_table(labels, "train").cls[:, -1]
    probe = LinearProbe(steps=300).fit(points, labels)
    assert (probe.predict(points) == labels).mean() > 0.95
    np.testing.assert_allclose(probe.predict_proba(points).sum(axis=1), 1)
    again = LinearProbe(steps=300).fit(points, labels)
    np.testing.assert_array_equal(probe.coef_, again.coef_)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_evaluation_retrains_and_repeats_to_the_bit(make_table: Make, task: Task) -> None:
    labels = labels_of(task, 60)
    train, val, test = (make_table(labels, split, seed=i) for i, split in enumerate("abc"))
    info = DatasetInfo("toy", task, tuple("vwxyz"[: labels.max() + 1 if labels.ndim == 1 else 5]))
    settings = LinearSettings(epoch_length=3, resamples=20)
    first, second, other = (
        evaluate_linear(train, val, test, info, settings, seed=seed) for seed in (0, 0, 1)
    )
    scores = [found.predictions[0].scores for found in (first, second, other)]
    np.testing.assert_array_equal(scores[0], scores[1])
    assert not np.array_equal(scores[0], scores[2])
    assert len(first.settings["grid"]) == len(first.settings["validation"]) == 52
    assert first.metrics == second.metrics


def test_test_labels_choose_nothing(make_table: Make) -> None:
    labels = labels_of("binary", 60)
    train, val, test = (make_table(labels, split, seed=i) for i, split in enumerate("abc"))
    info = DatasetInfo("toy", "binary", ("no", "yes"))
    settings = LinearSettings.preset("study").changed({"resamples": 20, "epochs": 2})
    found = [
        evaluate_linear(train, part, test, info, settings)
        for part in (val, train.take(slice(0, 0)))
    ]
    flipped = make_table(1 - labels, "c", seed=2)
    flipped.cls[:], flipped.patch_mean[:] = test.cls, test.patch_mean  # type: ignore[index]
    for before, part in zip(found, (val, train.take(slice(0, 0))), strict=True):
        after = evaluate_linear(train, part, flipped, info, settings)
        assert after.chosen == before.chosen
        np.testing.assert_array_equal(after.predictions[0].scores, before.predictions[0].scores)


def test_attention_equals_autograd_of_a_plain_module(make_table: Make) -> None:
    """One head against a module written out and trained by torch.optim.SGD."""
    labels = labels_of("binary", 20)
    table = make_table(labels, "train", slices=3)
    X, volumes = head_input(table, 1), np.repeat(np.arange(20), 3)
    keep = np.ones(60, bool)
    keep[[4, 5, 17]] = False  # volumes of different depth
    X, volumes = X[keep], volumes[keep]
    targets, plan = labels[:, None].astype(np.float32), Plan(25, batch_size=8)
    head = Head(1, True, 0.05)
    ours = train_attention(X, volumes, targets, [head], plan, dim=12, task="binary")
    query = torch.zeros(24, requires_grad=True)
    weight = torch.tensor(start_weights(head, (24, 1), 0), requires_grad=True)
    bias = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.SGD([query, weight, bias], lr=0.05, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 25)
    for index in batches(20, plan):
        logits = []
        for volume in index:
            rows = torch.from_numpy(X[volumes == volume])
            share = (rows @ query / 24**0.5).softmax(dim=0)
            logits.append(share @ rows @ weight + bias)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(
            torch.stack(logits), torch.from_numpy(targets[index])
        )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    np.testing.assert_allclose(ours.queries[0], query.detach(), atol=1e-5)
    np.testing.assert_allclose(ours.weights[0], weight.detach(), atol=1e-5)
    expected = [
        (torch.from_numpy(X[volumes == v] @ ours.queries[0] / 24**0.5).softmax(0).numpy())
        @ X[volumes == v]
        @ ours.weights[0]
        + ours.biases[0]
        for v in range(20)
    ]
    np.testing.assert_allclose(ours.logits(0, X, volumes), expected, atol=1e-5)


@pytest.mark.parametrize("pooling", ["mean", "max", "attention"])
def test_volumes_are_judged_once_each(make_table: Make, pooling: str) -> None:
    labels = labels_of("binary", 40)
    tables = [make_table(labels, split, seed=i, slices=4) for i, split in enumerate("abc")]
    info = DatasetInfo("toy", "binary", ("no", "yes"))
    settings = LinearSettings(epoch_length=5, resamples=20).changed({"pooling": pooling})
    if pooling != "attention":
        tables = [pool_slices(table, pooling) for table in tables]  # type: ignore[arg-type]
    results = evaluate_linear(*tables, info, settings)  # type: ignore[arg-type]
    assert results.predictions[0].scores.shape == (40, 2)
    assert results.metric("auroc").n == 40
    assert results.metric("auroc").value > 0.8


def test_settings_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ProtocolError, match="learning_rates"):
        LinearSettings(learning_rates=())
    with pytest.raises(ProtocolError, match="momentum"):
        LinearSettings(momentum=1.0)
