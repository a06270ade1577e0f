"""The model behind a result is found again: in the cache, beside the results, or where it is named.

Small networks with random beginnings, trained for an epoch: their numbers mean nothing.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.cli.verbs import app
from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import DataError
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.reports import answering
from dinorad_rt.reports.answering import Sources, opened_model
from dinorad_rt.reports.gallery import GalleryRequest, gallery_for
from dinorad_rt.reports.mask_pictures import MOST_OFF, cases_of, shown_case
from dinorad_rt.reports.material import read_material
from dinorad_rt.reports.page import Page
from dinorad_rt.training.classify import train_classifier
from dinorad_rt.training.evaluate import RunRequest, evaluate_run
from dinorad_rt.training.presets import classify_preset
from dinorad_rt.training.segmentation.run import train_segmentation
from dinorad_rt.training.segmentation.settings import SegmentationSettings
from dinorad_rt.training.settings import TrainSettings
from tests.reports.fake_masks import CLASSES, SECRET, write_images
from tests.reports.page_tree import Tree, assert_self_contained

SCRATCH = SegmentationSettings(model="unet", image_size=32, width=4)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(autouse=True)
def one_cache(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache for all tests here."""
    monkeypatch.setenv("DINORAD_RT_CACHE", str(home / "cache"))


@pytest.fixture
def masks(home: Path) -> Dataset:
    """Images, and a run trained and judged on them, once."""
    if not (home / "masks").exists():
        write_images(home / "masks")
    dataset = open_dataset(home / "masks", task="segmentation", class_names=CLASSES)
    if not (home / "segmenter").exists():
        loop = TrainSettings(epochs=1, batch_size=1, lr=3e-3, device="cpu")
        train_segmentation(SCRATCH, loop, dataset, home / "segmenter")
        evaluate_run(RunRequest(home / "segmenter", backend="pytorch"), dataset)
    return dataset


@pytest.fixture
def heads(home: Path) -> Dataset:
    """Images of two classes, and a linear head trained and judged on them, once."""
    folder = home / "heads"
    if not folder.exists():
        folder.mkdir()
        random, rows = np.random.default_rng(0), ["image,label,split"]
        for index in range(24):
            pixels = random.integers(0, 120, (40, 40)) + 120 * (index % 2)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{SECRET}{index}.png")
            split = "train" if index < 12 else "val" if index < 16 else "test"
            rows.append(f"{SECRET}{index}.png,{'ny'[index % 2]},{split}")
        (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    dataset = open_dataset(folder)
    if not (home / "classifier").exists():
        request = EngineRequest(model="test_vit", weights="random", image_size=32)
        recipe = classify_preset("linear").changed(epochs=1, batch_size=6, device="cpu")
        train_classifier(request, recipe, dataset, home / "classifier")
        evaluate_run(RunRequest(home / "classifier", backend="pytorch"), dataset)
    return dataset


def assert_same_dice(run: Any, model: Any, dataset: Dataset) -> None:
    cases = cases_of(run)
    assert cases is not None
    for sample in dataset.of_split("test"):
        (at,) = np.flatnonzero(cases.case_ids == sample.sample_id)
        shown = shown_case([sample], model, run, False)
        assert shown is not None
        assert abs(shown.dice - cases.values("dice")[at]) <= MOST_OFF


@pytest.mark.slow
def test_the_judged_engine_draws_the_masks(masks: Dataset, home: Path) -> None:
    (run,) = read_material([home / "segmenter" / "engine"]).runs
    with opened_model(run, Sources()) as model:
        assert "the engine that was judged, from this machine's cache" in model.words
        assert_same_dice(run, model, masks)


@pytest.mark.slow
def test_without_the_cache_it_is_built_again_from_its_checkpoint(
    masks: Dataset, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / "nothing"))
    (near,) = read_material([home / "segmenter" / "engine"]).runs
    shutil.copytree(home / "segmenter" / "engine", tmp_path / "elsewhere")
    (far,) = read_material([tmp_path / "elsewhere"]).runs
    with pytest.raises(DataError, match="--checkpoint"), opened_model(far, Sources()):
        pass
    for run, sources in ((near, Sources()), (far, Sources((home / "segmenter",)))):
        monkeypatch.setenv("DINORAD_RT_CACHE", str(tmp_path / f"empty {sources.checkpoints != ()}"))
        with opened_model(run, sources) as model:
            assert "the engine that was judged, built again" in model.words
            assert_same_dice(run, model, masks)


@pytest.mark.slow
def test_results_of_the_training_are_drawn_by_the_checkpoint(masks: Dataset, home: Path) -> None:
    runs = read_material([home / "segmenter"]).runs
    trained = next(run for run in runs if "run" not in run.results.provenance)
    with opened_model(trained, Sources()) as model:
        assert "PyTorch" in model.words
        assert_same_dice(trained, model, masks)
    page = Page("Pictures")
    gallery_for(read_material([home / "segmenter"]), GalleryRequest(masks, 1))(page)
    text = page.render()
    assert text.count("<h3>") == 1, "one set of pictures for one checkpoint"
    assert len(Tree(text).named("img")) == 9


@pytest.mark.slow
@pytest.mark.parametrize("saliency", ["occlusion", "gradients", "attention"])
def test_a_classifier_is_asked_again(saliency: Any, heads: Dataset, home: Path) -> None:
    page = Page("Pictures")
    material = read_material([home / "classifier" / "engine"])
    gallery_for(material, GalleryRequest(heads, 1, saliency=saliency))(page)
    text = page.render()
    assert "another score now" not in text and "weights: random" in text
    assert len(Tree(text).named("img")) in (2, 4)  # this head may make no error


@pytest.mark.slow
def test_a_bundle_serves_as_well(heads: Dataset, home: Path, tmp_path: Path) -> None:
    from dinorad_rt.prediction.write import bundle_run

    bundle_run(home / "classifier", tmp_path / "bundle")
    shutil.copytree(home / "classifier" / "engine", tmp_path / "elsewhere")
    (run,) = read_material([tmp_path / "elsewhere"]).runs
    with (
        pytest.raises(DataError, match="--checkpoint"),
        opened_model(run, Sources(), gradients=True),
    ):
        pass
    with opened_model(run, Sources((tmp_path / "bundle",)), gradients=True) as model:
        assert model.module is not None


@pytest.mark.slow
def test_other_checkpoints_are_not_taken(masks: Dataset, heads: Dataset, home: Path) -> None:
    (run,) = read_material([home / "segmenter" / "engine"]).runs
    stranger = replace(run, folder=None)
    assert answering._checkpoint(stranger, (home / "classifier",)) is None
    assert answering._checkpoint(stranger, (home / "segmenter",)) == home / "segmenter"


@pytest.mark.slow
def test_from_the_command_line(masks: Dataset, home: Path, tmp_path: Path) -> None:
    from typer.testing import CliRunner

    words = ["report", str(home / "segmenter"), "--out", str(tmp_path / "r"), "--gallery", "1"]
    done = CliRunner().invoke(app, [*words, "--data", str(home / "masks")])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "r" / "report.html").read_text(encoding="utf-8")
    assert_self_contained(text)
    assert len(Tree(text).pictures()) == 9
    for word in (SECRET, str(home), *(sample.sample_id for sample in masks.samples)):
        assert word not in text
