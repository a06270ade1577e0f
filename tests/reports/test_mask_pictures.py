"""Masks in the report: numbers by class and patient, and on request pictures of what was judged."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.errors import DataError
from dinorad_rt.reports import mask_pictures
from dinorad_rt.reports.answering import Model, Sources, opened_model
from dinorad_rt.reports.gallery import GalleryRequest, gallery_for
from dinorad_rt.reports.mask_numbers import class_tables, dice_of_patients, mask_drawings
from dinorad_rt.reports.material import Material, read_material
from dinorad_rt.reports.outlines import outlines
from dinorad_rt.reports.palette import COLOURS
from tests.reports.fake_masks import CLASSES, SECRET, SPEC, judged, thresholds, write_images
from tests.reports.fake_runs import fake_run
from tests.reports.hiding import hide
from tests.reports.page_tree import Tree, assert_self_contained, pictures_of, report_of


def no_engine(pixels: np.ndarray) -> np.ndarray:
    raise AssertionError("masks come from the segmenter")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def material(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Material:
    return read_material([judged(dataset, tmp_path_factory.mktemp("runs") / "a")])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """The judged segmenter, in place of an engine."""
    stand_in = Model("the stand-in", SPEC, no_engine, thresholds())

    @contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[Model]:
        yield stand_in

    monkeypatch.setattr(mask_pictures, "opened_model", opened)
    return stand_in


def test_numbers_by_class_equal_the_results(material: Material, tmp_path: Path) -> None:
    (test_set,) = material.test_sets
    tables = class_tables(test_set)
    assert list(tables) == ["per case", "pooled pixels"]
    for rows in tables.values():
        assert [row["class"] for row in rows] == ["mean", *CLASSES[1:]]
    each, pooled = tables.values()
    results = test_set.results
    lung = results.metric("hd95", "lung", over="volumes")
    cell = each[1]["HD95, px"]
    assert (cell.value, cell.low, cell.high) == (lung.value, lung.ci_low, lung.ci_high)
    assert pooled[1]["Dice"].value == results.metric("dice", "lung", over="pixels").value
    assert "HD95, px" not in pooled[0]  # distances are of single cases
    assert (cell.decimals, each[1]["Dice"].decimals) == (2, 3)
    assert material.runs[0].setting == {"over": "volumes"}
    text = report_of(material, tmp_path)
    assert "Masks of" in text and "HD95, px" in text and "HD95, mm" not in text
    assert f"{lung.value:.2f} [{lung.ci_low:.2f}, {lung.ci_high:.2f}]" in (
        markdown := (tmp_path / "report.md").read_text()
    )
    assert "Masks by class, pooled pixels:" in markdown
    kinds = [str(table["class"]) for table in Tree(text).named("table")]
    assert kinds[:3] == ["sortable stacked", "sortable stacked", "sortable"]
    assert "Bars from 0 to 1" in text
    counted = [
        row
        for row in csv.DictReader(io.StringIO((tmp_path / "report.csv").read_text()))
        if row["counts"] == "1"
    ]
    assert {row["setting"] for row in counted} == {'{"over": "volumes"}'}


def test_dice_is_shown_patient_by_patient(material: Material) -> None:
    (run,) = material.runs
    assert run.folder is not None
    rows = pq.read_table(run.folder / "cases.parquet").to_pylist()
    cases = mask_pictures.cases_of(run)
    assert cases is not None
    wanted = sorted(row["dice"] for row in rows if row["class"] == "lung")
    np.testing.assert_allclose(dice_of_patients(cases, "lung"), wanted)
    twins = replace(cases, patients=np.asarray(["a", "a", "b", "b", "b"]))
    each = cases.values("dice")
    np.testing.assert_allclose(dice_of_patients(twins), sorted((each[:2].mean(), each[2:].mean())))
    (drawing,) = mask_drawings(material.test_sets[0])
    assert f"lung: 5 patients, lowest {wanted[0]:.3f}" in drawing.alternative


def test_without_the_wish_there_is_no_picture(material: Material, tmp_path: Path) -> None:
    tree = Tree(report_of(material, tmp_path))
    assert not tree.named("img") and "Pictures" not in tree.texts["h2"]
    assert len(tree.named("svg")) == 2  # Dice by patient, and the forest


def test_a_run_without_its_cases_has_a_table_and_no_plot(
    material: Material, dataset: Dataset, tmp_path: Path
) -> None:
    folder = judged(dataset, tmp_path / "a")
    (folder / "cases.parquet").unlink()
    alone = read_material([folder])
    assert class_tables(alone.test_sets[0]) and not list(mask_drawings(alone.test_sets[0]))
    text = pictures_of(alone, GalleryRequest(dataset, 1))
    assert "cases.parquet is not beside the results" in text and "<img" not in text


def test_worst_median_and_best_are_outlined(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    text = pictures_of(material, GalleryRequest(dataset, 1))
    tree = Tree(text)
    assert_self_contained(text)
    cases = mask_pictures.cases_of(material.runs[0])
    assert cases is not None
    dice = np.sort(cases.values("dice"))
    captions = [words for words in tree.texts["figcaption"] if "HD95" in words]
    assert [words.split(" (")[0] for words in captions] == [
        f"Worst: Dice {dice[0]:.3f}",
        f"Median: Dice {dice[2]:.3f}",
        f"Best: Dice {dice[4]:.3f}",
    ]
    alternatives = [str(image["alt"]) for image in tree.named("img")]
    assert len(alternatives) == 9
    assert alternatives[:3] == [
        "Image of the worst test case by Dice",
        "Reference of the worst test case by Dice, outlined: lung 13.2 % of the picture, "
        "heart <b> 7.8 % of the picture",
        "Prediction of the worst test case by Dice, outlined: lung 13.2 % of the picture, "
        "heart <b> 7.8 % of the picture",
    ]
    assert "another Dice now" not in text
    assert "heart <b>" not in text and "heart &lt;b&gt;" in text
    legend = [str(item.get("style")) for item in tree.named("i") if "--key" in str(item)]
    assert legend == [f"--key:{COLOURS[0]}", f"--key:{COLOURS[1]}"]


def test_the_outlines_lie_where_the_masks_end(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    tree = Tree(pictures_of(material, GalleryRequest(dataset, 1)))
    image, reference, prediction = (
        np.asarray(picture.convert("RGB")).astype(int) for picture in tree.pictures()[:3]
    )
    colours = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in COLOURS[:2]]
    scale = len(image) / 64
    assert not any((image == colour).all(axis=2).any() for colour in colours)
    for picture, moved in ((reference, 0), (prediction, 6)):  # the worst is the seventh image
        rows, columns = np.nonzero((picture == colours[0]).all(axis=2))
        box = np.asarray([rows.min(), rows.max() + 1, columns.min(), columns.max() + 1]) / scale
        np.testing.assert_allclose(box, [10 + moved, 40 + moved, 8, 26], atol=0.5)


def test_nobody_is_named(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    text = pictures_of(material, GalleryRequest(dataset, 2))
    for sample in dataset.samples:
        for word in (SECRET, sample.sample_id, sample.patient, str(sample.path.parent)):
            assert word not in text
    for picture in Tree(text).pictures():
        assert not picture.info.keys() - {"dpi"}


def test_a_model_that_answers_otherwise_is_told(
    material: Material,
    dataset: Dataset,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    blind = replace(thresholds(), scores=lambda pixels: -thresholds().scores(pixels))
    object.__setattr__(model, "segmenter", blind)
    text = pictures_of(material, GalleryRequest(dataset, 1))
    assert "3 of these cases have another Dice now" in text


def test_a_picture_without_an_outline_says_so(
    material: Material, dataset: Dataset, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(pixels: np.ndarray) -> np.ndarray:
        return np.stack([np.ones_like(pixels[:, 0])] + [np.zeros_like(pixels[:, 0])] * 2, axis=1)

    object.__setattr__(model, "segmenter", replace(thresholds(), scores=nothing))
    tree = Tree(pictures_of(material, GalleryRequest(dataset, 1)))
    assert tree.texts["p"].count("Prediction: no class here") == 3
    assert tree.texts["p"].count("Reference") == 3


def test_what_may_not_be_shown_gives_way_to_the_next(
    material: Material,
    dataset: Dataset,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases = mask_pictures.cases_of(material.runs[0])
    assert cases is not None
    order = np.argsort(cases.values("dice"))
    hidden = {str(cases.case_ids[order[0]]), str(cases.case_ids[order[4]])}
    hide(monkeypatch, mask_pictures, hidden)
    text = pictures_of(material, GalleryRequest(dataset, 1))
    dice = np.sort(cases.values("dice"))
    assert f"Worst: Dice {dice[1]:.3f}" in text and f"Best: Dice {dice[3]:.3f}" in text
    assert len(Tree(text).named("img")) == 9


def test_volumes_show_the_slice_with_most_of_the_reference(
    material: Material, dataset: Dataset, model: Model
) -> None:
    group = dataset.of_split("test")[:3]
    shown = mask_pictures.shown_case(group, model, material.runs[0], False)
    assert shown is not None and shown.place == "Slice 1 of 3"  # all have the same reference
    assert shown.truth.shape == shown.picture.shape[:2] == (64, 64)
    every = [mask_pictures.shown_case([one], model, material.runs[0], False) for one in group]
    single = [one.dice for one in every if one is not None]
    assert min(single) < shown.dice < max(single)
    assert [one.place for one in every if one is not None] == ["", "", ""]


def test_the_ranks_of_few_cases() -> None:
    known = [7, 3, 5, 1, 2]
    assert mask_pictures.ranked(known, "worst") == known
    assert mask_pictures.ranked(known, "best") == [2, 1, 5, 3, 7]
    assert mask_pictures.ranked(known, "median") == [5, 3, 1, 7, 2]


def test_small_structures_keep_their_outline() -> None:
    mask = np.zeros((1000, 800), np.uint8)
    mask[500, 300] = 1
    mask[:, :20] = 2
    found = outlines(mask, (320, 400))
    assert found.keys() == {1, 2} and found[1].any()
    assert found[2][:, :2].all() and not found[2][10:-10, 3].any()


def test_a_model_that_is_nowhere_is_asked_for(material: Material, cache: Path) -> None:
    with (
        pytest.raises(DataError, match="--checkpoint"),
        opened_model(material.runs[0], Sources()),
    ):
        pass


def test_runs_on_other_data_are_told(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    fake_run(tmp_path / "other")
    (folder,) = [run.folder for run in material.runs]
    assert folder is not None
    said: list[str] = []
    both = read_material([folder, tmp_path / "other"])
    gallery_for(both, GalleryRequest(dataset, 1), say=said.append)
    assert said == ["no pictures of 1 run: judged on other data"]
