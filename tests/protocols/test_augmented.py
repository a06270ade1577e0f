"""Crops against torchvision's own, and heads that see other rows in each epoch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp
from torchvision.transforms import RandomResizedCrop

from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.embeddings.table import EmbeddingTable
from dinorad_rt.errors import ProtocolError
from dinorad_rt.protocols.augmented import AugmentedImages, augmented, crop_box
from dinorad_rt.protocols.heads import Head, Plan, head_input, train_heads
from dinorad_rt.protocols.registry import settings_for
from dinorad_rt.studies.study import Study

Make = Callable[..., EmbeddingTable]


@pytest.mark.parametrize("scale", [(0.75, 1.0), (0.08, 1.0)])
def test_boxes_have_the_distribution_of_torchvisions(scale: tuple[float, float]) -> None:
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    image = torch.zeros(1, 90, 120)
    ours = np.array([crop_box(90, 120, scale, random) for _ in range(1500)])
    theirs = np.array(
        [RandomResizedCrop.get_params(image, list(scale), [3 / 4, 4 / 3]) for _ in range(1500)]
    )
    for column in range(4):
        assert ks_2samp(ours[:, column], theirs[:, column]).pvalue > 0.001
    assert (ours[:, 0] + ours[:, 2] <= 90).all()
    assert (ours[:, 1] + ours[:, 3] <= 120).all()


def test_very_long_images_fall_back_to_the_centre() -> None:
    assert crop_box(10, 400, (1.0, 1.0), np.random.default_rng(0)) == (0, 193, 10, 13)


def test_half_of_the_images_are_flipped_left_to_right() -> None:
    pixels = np.tile(np.arange(20.0), (1, 10, 1))
    random = np.random.default_rng(0)
    firsts = [
        np.diff(augmented(Study(pixels), (1.0, 1.0), random).pixels[0, 0])[0] for _ in range(200)
    ]
    assert set(firsts) == {1.0, -1.0}
    assert 60 < sum(step < 0 for step in firsts) < 140


def test_each_epoch_trains_on_its_own_rows(make_table: Make) -> None:
    """Equal rows in each epoch give what one array gives; other rows give something else."""
    labels = np.arange(20) % 2
    X = head_input(make_table(labels, "train"), 1)
    targets, heads = labels[:, None].astype(np.float32), [Head(1, True, 0.05)]
    plan = Plan(6, batch_size=10, epoch_steps=2)

    def trained(rows: object) -> np.ndarray:
        found = train_heads(rows, targets, heads, plan, dim=12, task="binary")  # type: ignore[arg-type]
        return found.weights[0]

    once = train_heads(X, targets, heads, Plan(6, batch_size=10), dim=12, task="binary")
    np.testing.assert_array_equal(trained(iter([X, X, X])), once.weights[0])
    assert not np.array_equal(trained(iter([X, -X, X])), once.weights[0])


def test_crops_go_through_the_engine_in_the_order_of_the_rows(
    make_table: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that gives back the mean grey of what it sees."""
    table = make_table(np.arange(40) % 2, "train")

    class Runner:
        def __enter__(self) -> Runner:
            return self

        def __exit__(self, *_: object) -> None: ...

        def infer(self, rows: np.ndarray) -> dict[str, np.ndarray]:
            return {"cls": rows.mean(axis=(1, 2, 3))[:, None, None]}

    def read(self: AugmentedImages, name: str) -> Study:
        return Study(np.full((1, 30, 30), float(name[5:]) / 40), units="display")

    from dinorad_rt.preprocessing.spec import PreprocessSpec

    monkeypatch.setattr("dinorad_rt.engines.build.open_runner", lambda _: Runner())
    monkeypatch.setattr(AugmentedImages, "_read", read)
    spec = PreprocessSpec(16, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), intensity="window", window=(0.5, 1))
    samples = [Sample(name, Path("x"), name, "train", (0,)) for name in table.sample_ids]
    images = AugmentedImages(samples, None, spec, workers=2)  # type: ignore[arg-type]
    epochs = list(images.epochs(table, 2, (0.75, 1.0), 0))
    assert len(epochs) == 2
    for epoch in epochs:
        np.testing.assert_allclose(epoch.cls[:, 0, 0], np.arange(40) / 40, atol=1e-3)
        assert epoch.patch_mean is None
        np.testing.assert_array_equal(epoch.labels, table.labels)
    volumes = make_table(np.arange(6) % 2, "train", slices=2)
    with pytest.raises(ProtocolError, match="slices of volumes"):
        next(images.epochs(volumes, 1, (0.75, 1.0), 0))


def test_settings_of_augmentation() -> None:
    assert settings_for("linear").needs_images is False
    assert settings_for("linear", options={"augment": True}).needs_images
    assert settings_for("linear", "dinov2").crop_scale == (0.08, 1.0)  # type: ignore[attr-defined]
    with pytest.raises(ProtocolError, match="crop_scale"):
        settings_for("linear", options={"crop_scale": (0.9, 0.5)})
    with pytest.raises(ProtocolError, match="augment"):
        settings_for("linear", options={"augment": True, "pooling": "attention"})
