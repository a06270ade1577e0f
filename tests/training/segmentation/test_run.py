"""Whole runs on small volumes: every way of training, results, resuming, and bad input."""

from __future__ import annotations

import dataclasses
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from dinorad_rt.datasets.dataset import Dataset, Sample
from dinorad_rt.datasets.masks import read_mask
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import (
    DivergedError,
    EmptyDataError,
    LabelError,
    MaskError,
    ProtocolError,
    UnknownNameError,
)
from dinorad_rt.files import read_json
from dinorad_rt.pipeline import EngineRequest
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.reports.results import Results
from dinorad_rt.studies.read import read_study
from dinorad_rt.training.checkpoint import load_tuned
from dinorad_rt.training.run_folder import read_best
from dinorad_rt.training.segmentation.arrays import ArrayStore
from dinorad_rt.training.segmentation.decoders import Candidates, build_decoder
from dinorad_rt.training.segmentation.evaluate import (
    judge_cases,
    segment_cases,
    segment_group,
    volumes_of,
)
from dinorad_rt.training.segmentation.fill import question_of
from dinorad_rt.training.segmentation.load import segmenter_of
from dinorad_rt.training.segmentation.predict import SliceSegmenter, segment_study
from dinorad_rt.training.segmentation.run import train_segmentation
from dinorad_rt.training.segmentation.settings import SegmentationSettings
from dinorad_rt.training.segmentation.volumes import fill_volumes
from dinorad_rt.training.segmentation.work import scratch_spec
from dinorad_rt.training.settings import TrainSettings

from .conftest import CLASSES, write_volumes

Loop = Callable[..., TrainSettings]
TOKENS = SegmentationSettings(
    model="test_vit", weights="random", image_size=64, decoder="linear", augmentation="none"
)
SCRATCH = SegmentationSettings(model="unet", image_size=32, width=4)
PATCHES = SegmentationSettings(model="unet3d", width=4, patch=(16, 16, 32), per_volume=2)
ENGINE = EngineRequest(backend="openvino", precision="fp32")


def dice_of(results: Results) -> float:
    value = results.metric("dice", None, over="volumes").value
    assert value is not None
    return value


def assert_same_weights(first: Path, second: Path) -> None:
    """To the bit."""
    one, other = read_best(first), read_best(second)
    assert one.keys() == other.keys()
    assert all(one[name].equal(other[name]) for name in one)


@pytest.mark.parametrize(
    "settings",
    [
        TOKENS,
        dataclasses.replace(TOKENS, decoder="unet", augmentation="light", views=2),
        dataclasses.replace(TOKENS, encoder="trained", augmentation="light"),
        SCRATCH,
        PATCHES,
        dataclasses.replace(PATCHES, spacing=(1.0, 1.0, 2.0), patch=(16, 32, 16)),
    ],
    ids=["linear, cached", "unet, two views", "trained", "unet", "unet3d", "unet3d at a spacing"],
)
def test_a_run_trains_is_judged_and_loads_again(
    settings: SegmentationSettings, volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    trained = train_segmentation(settings, loop(), volumes, run, request=ENGINE)
    losses = trained.history.losses
    assert losses[-1] < losses[0]
    results = Results.open(run)
    assert results.task == "segmentation" and results.class_names == CLASSES
    assert {m.name for m in results.metrics} == {"dice", "jaccard", "hd95", "nsd"}
    assert results.settings["unit"] == "mm" and results.metric("hd95", "front").n == 2
    text = (run / "train.json").read_text() + (run / "results.json").read_text()
    assert str(tmp_path) not in text and "v6.nii" not in text
    tuned = load_tuned(run)
    study = read_study(volumes.of_split("test")[0].path)
    again = segment_study(segmenter_of(tuned), study)
    test = volumes.of_split("test")
    cases, failed = segment_cases(segmenter_of(tuned), volumes, test, tolerance=1.0)
    assert not failed and again.shape == study.pixels.shape
    other = judge_cases(cases, volumes, settings={}, provenance={}, tolerance=1.0)
    assert dice_of(other) == pytest.approx(dice_of(results), abs=2e-3)


def test_a_from_scratch_unet_finds_the_balls(volumes: Dataset, loop: Loop, tmp_path: Path) -> None:
    settings = dataclasses.replace(SCRATCH, width=8)
    trained = train_segmentation(settings, loop(epochs=16, lr=1e-2), volumes, tmp_path / "run")
    assert trained.results is not None and dice_of(trained.results) > 0.8


def test_a_stopped_run_goes_on_to_the_same_weights(
    volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    settings = dataclasses.replace(SCRATCH, augmentation="light")

    def stop(done: int, total: int) -> None:
        if total == 6 and done == 4:
            raise KeyboardInterrupt

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train_segmentation(settings, loop(save_minutes=1e-9), volumes, whole)
    with pytest.raises(KeyboardInterrupt):
        train_segmentation(settings, loop(save_minutes=1e-9), volumes, parts, progress=stop)
    train_segmentation(settings, loop(save_minutes=1e-9), volumes, parts)
    assert_same_weights(whole, parts)
    losses = [read_json(run / "train.json")["history"]["losses"] for run in (whole, parts)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("settings", [SCRATCH, PATCHES], ids=["slices", "patches"])
def test_weights_do_not_tell_who_made_the_batches(
    settings: SegmentationSettings, volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    settings = dataclasses.replace(settings, augmentation="light")
    for workers in (0, 2):
        run = tmp_path / str(workers)
        train_segmentation(settings, loop(batch_size=4), volumes, run, workers=workers)
        assert not multiprocessing.active_children()
    assert_same_weights(tmp_path / "0", tmp_path / "2")


def test_a_search_trains_one_decoder_per_rate_and_the_best_again(
    volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    rates = (1e-9, 1e-2)
    settings = dataclasses.replace(TOKENS, decoder="unet", learning_rates=rates)
    said: list[str] = []
    trained = train_segmentation(
        settings,
        loop(epochs=4, clip_norm=None),
        volumes,
        tmp_path / "run",
        request=ENGINE,
        say=said.append,
    )
    assert any(text.startswith("learning rate 0.01:") for text in said), said
    search = read_best(tmp_path / "run-search")
    before = dict(build_candidates(rates).state_dict())
    for index, moves in enumerate((False, True)):
        name = f"decoder.members.{index}.head.weight"
        moved = (search[name] - before[name.removeprefix("decoder.")]).abs().max().item()
        assert (moved > 1e-3) == moves
    facts = read_json(tmp_path / "run" / "train.json")
    assert facts["settings"]["lr"] == 1e-2 and facts["history"]["best_epoch"] == 4
    assert len(trained.history.losses) > 4 * 4 * 7 // 8, "validation images are trained on too"


def test_a_search_clips_each_decoder_by_itself(volumes: Dataset, loop: Loop) -> None:
    """One gradient that explodes must not shorten the steps of the others."""
    from dinorad_rt.training.parallel import Workers
    from dinorad_rt.training.segmentation.prepare import prepare
    from dinorad_rt.training.segmentation.work import Work
    from dinorad_rt.training.stepper import Stepper

    settings = dataclasses.replace(TOKENS, learning_rates=(1.0, 0.1))
    chosen = loop(optimizer="sgd", momentum=0.0, weight_decay=0.0, clip_norm=1e-2)
    request = dataclasses.replace(ENGINE, model="test_vit", weights="random", image_size=64)
    work = Work(settings, chosen, volumes, request, None, lambda _: None, None, stage="search")
    job = prepare(work).job
    before = {name: value.clone() for name, value in job.module.state_dict().items()}
    job.train_mode()
    Stepper(job, chosen, Workers("cpu")).step([next(job.train_batches(0, 0))], 1.0, lambda _: 0)
    after = job.module.state_dict()
    for index, rate in enumerate(settings.learning_rates):
        names = [name for name in after if f"members.{index}." in name]
        moved = torch.cat([(after[name] - before[name]).flatten() for name in names]).norm()
        assert float(moved) == pytest.approx(1e-2 * rate, rel=0.01)


def test_a_search_that_diverges_names_the_rates_below(
    volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    settings = dataclasses.replace(TOKENS, learning_rates=(1e-3, 1e38, 0.5))
    with pytest.raises(DivergedError, match="is (nan|inf)") as told:
        train_segmentation(
            settings, loop(optimizer="sgd"), volumes, tmp_path / "run", request=ENGINE
        )
    assert told.value.fix.endswith("--learning-rates 0.001,0.5")


def build_candidates(rates: tuple[float, ...]) -> Candidates:
    """As `prepare` makes them."""
    torch.manual_seed(0)
    made = [build_decoder("unet", dim=64, grid=4, classes=3, image_size=64) for _ in rates]
    return Candidates(made, rates)


def test_tokens_are_computed_once(volumes: Dataset, loop: Loop, tmp_path: Path) -> None:
    volumes = dataclasses.replace(volumes, fingerprint="of this test alone")
    said: list[str] = []
    for name in ("a", "b"):
        train_segmentation(
            TOKENS, loop(epochs=1), volumes, tmp_path / name, request=ENGINE, say=said.append
        )
    assert sum(text.startswith("computing patch tokens of 6") for text in said) == 1
    assert_same_weights(tmp_path / "a", tmp_path / "b")


def test_series_that_are_numbered_anew_for_each_patient_are_no_common_volume() -> None:
    def sample(name: str, patient: str, series: str | None) -> Sample:
        return Sample(name, Path(name), patient, "test", (), series=series)

    rows = [("a1", "a", "1"), ("b1", "b", "1"), ("a2", "a", "1"), ("c1", "c", None)]
    found = volumes_of([sample(*row) for row in rows])
    assert [[one.sample_id for one in group] for group in found] == [["a1", "a2"], ["b1"], ["c1"]]


def test_a_perfect_segmenter_is_perfect_on_the_files_own_grid(volumes: Dataset) -> None:
    """Grey thresholds tell the balls apart, so only the way there and back can spoil them."""
    spec = PreprocessSpec(112, (0, 0, 0), (1, 1, 1), intensity="percentile", percentiles=(0, 100))

    def scores(pixels: np.ndarray) -> np.ndarray:
        grey = pixels[:, 0]
        levels = np.asarray([0.1, 0.9, 0.55])[:, None, None]
        return -np.abs(grey[:, None] - levels).astype(np.float32)

    # one intensity scale for all slices of these volumes
    spec = dataclasses.replace(spec, intensity="window", window=(100, 200))
    cases, _ = segment_cases(SliceSegmenter(spec, 3, scores), volumes, volumes.samples, tolerance=1)
    assert min(float(case.scores.dice.min()) for case in cases) > 0.93
    sample = volumes.samples[0]
    found = segment_study(SliceSegmenter(spec, 3, scores), read_study(sample.path))
    assert (found == read_mask(sample)).mean() > 0.98


def test_unreadable_test_images_are_told(volumes: Dataset, loop: Loop, tmp_path: Path) -> None:
    volumes.of_split("test")[0].path.write_bytes(b"no volume")
    trained = train_segmentation(SCRATCH, loop(epochs=1), volumes, tmp_path / "run")
    assert trained.results is not None and trained.results.metrics[0].n == 1
    assert any("1 of 2 test images could not be read" in note for note in trained.results.notes)


def test_volumes_without_numbers_are_no_volumes(volumes: Dataset) -> None:
    import nibabel

    sample = volumes.samples[0]
    image = nibabel.load(sample.path)
    nan = np.full(image.shape, np.nan, np.float32)
    nibabel.save(nibabel.Nifti1Image(nan, image.affine), sample.path)
    failed: dict[str, str] = {}
    assert segment_group((), [sample], failed) is None
    assert "finite" in failed[sample.sample_id]
    spec = scratch_spec(PATCHES, 32)
    stores = [ArrayStore.open(question_of(kind, volumes, spec)) for kind in ("v", "m")]
    fill_volumes((stores[0], stores[1]), [sample], spec, None, 3)
    assert "finite" in stores[0].failures[sample.sample_id].lower()


def test_labels_beyond_the_classes_are_refused(tmp_path: Path, cache: Path, loop: Loop) -> None:
    folder = write_volumes(tmp_path / "data")
    with pytest.raises(LabelError, match="2"):
        dataset = open_dataset(folder, task="segmentation", class_names=CLASSES[:2])
        train_segmentation(SCRATCH, loop(), dataset, tmp_path / "run")


def test_a_label_that_appears_later_is_refused(
    volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    few = dataclasses.replace(
        volumes,
        class_names=CLASSES[:2],
        samples=tuple(dataclasses.replace(s, mask_values=None) for s in volumes.samples),
    )
    with pytest.raises(LabelError, match="label 2; the dataset has 2 classes"):
        train_segmentation(SCRATCH, loop(), few, tmp_path / "run")


def test_masks_elsewhere_than_their_image_are_refused(tmp_path: Path, cache: Path) -> None:
    import nibabel as nib

    folder = write_volumes(tmp_path / "data")
    path = folder / "masks" / "v0.nii.gz"
    mask = nib.load(path)
    moved = mask.affine.copy()
    moved[0, 3] += 4
    nib.save(nib.Nifti1Image(np.asarray(mask.dataobj), moved), path)
    with pytest.raises(MaskError, match="1 of 8 masks do not lie on their image"):
        open_dataset(folder, task="segmentation", class_names=CLASSES)


def test_empty_splits_are_refused(volumes: Dataset, loop: Loop, tmp_path: Path) -> None:
    left = tuple(s for s in volumes.samples if s.split != "val")
    with pytest.raises(EmptyDataError, match="no val images to choose the best epoch by"):
        train_segmentation(
            SCRATCH, loop(), dataclasses.replace(volumes, samples=left), tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_validation_without_foreground_is_refused(tmp_path: Path, cache: Path, loop: Loop) -> None:
    import nibabel as nib

    folder = write_volumes(tmp_path / "data")
    for index in (4, 5):
        path = folder / "masks" / f"v{index}.nii.gz"
        mask = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(mask.shape, np.uint8), mask.affine), path)
    dataset = open_dataset(folder, task="segmentation", class_names=CLASSES)
    with pytest.raises(ProtocolError, match="No mask of the 2 validation images"):
        train_segmentation(SCRATCH, loop(), dataset, tmp_path / "run")


def test_backbones_and_data_that_cannot_be_segmented_are_refused(
    volumes: Dataset, loop: Loop, tmp_path: Path
) -> None:
    classes = dataclasses.replace(volumes, task="multiclass")
    with pytest.raises(ProtocolError, match="it has no masks"):
        train_segmentation(SCRATCH, loop(), classes, tmp_path / "run")
    with pytest.raises(UnknownNameError, match="decoder 'unte'"):
        SegmentationSettings(decoder="unte")
    with pytest.raises(ProtocolError, match="views 0"):
        SegmentationSettings(views=0)
    for patch, why in (((16, 40, 32), "multiples of 16"), ((16, 16, 16), "a single voxel")):
        with pytest.raises(ProtocolError, match=why):
            odd = dataclasses.replace(PATCHES, patch=patch)
            train_segmentation(odd, loop(), volumes, tmp_path / "run")
    for encoder in ("cached", "frozen"):
        settings = SegmentationSettings(
            model="test_resnet", weights="random", image_size=32, encoder=encoder
        )
        with pytest.raises(ProtocolError, match="no patch tokens") as caught:
            train_segmentation(settings, loop(), volumes, tmp_path / "run")
        assert "--model unet" in caught.value.fix


def test_a_batch_follows_seed_epoch_and_number(volumes: Dataset, loop: Loop) -> None:
    """Wherever the epoch is entered."""
    from dinorad_rt.training.segmentation.prepare import prepare
    from dinorad_rt.training.segmentation.work import Work

    work = Work(SCRATCH, loop(), volumes, ENGINE, None, lambda _: None, None)
    job = prepare(work).job
    whole = list(job.train_batches(1, seed=3))
    assert len(whole) == job.num_batches() >= 3
    for start, step in ((2, 1), (1, 2)):
        part = job.train_batches(1, seed=3, start=start, step=step)
        for first, second in zip(whole[start::step], part, strict=True):
            assert torch.equal(first["inputs"], second["inputs"])
            assert torch.equal(first["mask"], second["mask"])
    assert not torch.equal(whole[0]["inputs"], next(job.train_batches(2, seed=3))["inputs"])
