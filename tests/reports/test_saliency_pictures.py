"""Saliency of trained classifiers in the report: which answers, what moved them, and no names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.embeddings.provenance import dataset_facts
from dinorad_rt.prediction.saliency import Attribution
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.reports import saliency_pictures
from dinorad_rt.reports.answering import Model
from dinorad_rt.reports.gallery import GalleryRequest
from dinorad_rt.reports.material import Material, read_material
from dinorad_rt.reports.saliency_pictures import answers_of, where
from dinorad_rt.training.judged import judge_scores
from tests.reports.fake_masks import PLAIN, SECRET
from tests.reports.hiding import hide
from tests.reports.page_tree import Tree, assert_self_contained, pictures_of, report_of

SIZE = 42
SPEC = PreprocessSpec(SIZE, **PLAIN, intensity="range")
TEST = (30, 90, 130, 170, 190, 210, 230, 60)
WRONG = {3, 7}


def logits(pixels: np.ndarray) -> np.ndarray:
    """What is bright in the upper left ninth speaks for the second class."""
    corner = pixels[:, 0, : SIZE // 3, : SIZE // 3].mean(axis=(1, 2))
    return np.stack([np.zeros_like(corner), 8 * corner - 4], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Images with a bright upper left corner, or none; two have the other's label."""
    folder = tmp_path_factory.mktemp("heads")
    rows = ["image,label,split"]
    for index, grey in enumerate((40, 200, 50, 210, *TEST)):
        pixels = np.full((SIZE, SIZE), 20, np.uint8)
        pixels[: SIZE // 3, : SIZE // 3] = grey
        Image.fromarray(pixels).save(folder / f"{SECRET}{index}.png")
        label = ("no", "yes")[(grey > 127) ^ (index - 4 in WRONG)]
        split = ("train", "train", "val", "val")[index] if index < 4 else "test"
        rows.append(f"{SECRET}{index}.png,{label},{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return open_dataset(folder)


def scored(dataset: Dataset) -> np.ndarray:
    return np.concatenate(
        [
            logits(np.asarray(Image.open(sample.path), np.float32)[None, None] / 255)
            for sample in dataset.of_split("test")
        ]
    )


@pytest.fixture(scope="module")
def material(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Material:
    facts = {
        "method": {"protocol": "linear"},
        "head": {},
        "recipe": {"preset": "modern"},
        "backbone": {"model": "corner", "weights": {"kind": "file", "sha256": "f" * 64}},
        "preprocessing": SPEC.as_dict(),
        "data": dataset_facts(dataset),
    }
    results = judge_scores(scored(dataset), dataset.of_split("test"), dataset, facts, seed=0)
    results.provenance["run"] = "c" * 64
    folder = tmp_path_factory.mktemp("runs") / "a"
    results.write(folder)
    return read_material([folder])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    """The judged classifier, in place of an engine."""
    stand_in = Model("the stand-in", SPEC, logits)

    @contextmanager
    def opened(*_: Any, gradients: bool = False, **__: Any) -> Iterator[Model]:
        yield replace(
            stand_in, infer=model_infer(stand_in), module=torch_logits if gradients else None
        )

    monkeypatch.setattr(saliency_pictures, "opened_model", opened)
    return stand_in


def model_infer(stand_in: Model) -> Any:
    return lambda pixels: stand_in.infer(pixels)


def torch_logits(pixels: Any) -> Any:
    import torch

    corner = pixels[:, 0, : SIZE // 3, : SIZE // 3].mean(dim=(1, 2))
    return torch.stack([torch.zeros_like(corner), 8 * corner - 4], dim=1)


def test_answers_come_with_the_most_confident_first(material: Material) -> None:
    answers = answers_of(material.runs[0])
    assert len(answers) == len(TEST)
    assert [answer.score for answer in answers] == sorted((a.score for a in answers), reverse=True)
    assert sum(not answer.right for answer in answers) == len(WRONG)
    results = material.runs[0].results
    for answer in answers:
        at = results.sample_ids.tolist().index(answer.sample_id)
        assert answer.right == (results.labels[at] == answer.target)


def test_of_several_labels_the_highest_counts(material: Material) -> None:
    (run,) = material.runs
    labels = np.stack([run.results.labels == 0, run.results.labels == 0], axis=1).astype(int)
    several = replace(run, results=replace(run.results, task="multilabel", labels=labels))
    chosen = {answer.sample_id: answer for answer in answers_of(several)}
    for at, sample_id in enumerate(run.results.sample_ids):
        scores = run.results.predictions[0].scores[at]
        assert chosen[sample_id].target == scores.argmax()
        assert chosen[sample_id].right == (run.results.labels[at] == 0)


def test_without_the_wish_there_is_no_picture(material: Material, tmp_path: Path) -> None:
    text = report_of(material, tmp_path)
    assert "<img" not in text and "saliency" not in text.lower()


@pytest.mark.parametrize("method", ["occlusion", "gradients"])
def test_right_and_wrong_answers_are_explained(
    method: Any, material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    text = pictures_of(material, GalleryRequest(dataset, 2, saliency=method))
    tree = Tree(text)
    assert_self_contained(text)
    assert "It is no explanation of a diagnosis" in text
    named = {"occlusion": "Occlusion:", "gradients": "Integrated gradients"}[method]
    assert named in text and "another score now" not in text
    assert tree.texts["h4"] == ["Most confident right answers", "Most confident wrong answers"]
    captions = [words for words in tree.texts["figcaption"] if words.startswith("Answer")]
    answers = answers_of(material.runs[0])
    wanted = [a for right in (True, False) for a in [b for b in answers if b.right is right][:2]]
    names = ("no", "yes")
    for words, answer in zip(captions, wanted, strict=True):
        truth = names[answer.target if answer.right else 1 - answer.target]
        start = f"Answer {names[answer.target]} with a score of {answer.score:.3f}; truth: {truth}."
        assert words.startswith(start)
    images = tree.named("img")
    assert len(images) == 8
    for image, answer in zip(images[1::2], wanted, strict=True):
        alternative = str(image["alt"])
        if answer.target == 1:  # what is bright speaks for it; of the other class it speaks against
            assert alternative.endswith("lies at the top left of the picture")


def test_attention_is_not_said_to_move_the_answer(
    material: Material, dataset: Dataset, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Attribution(np.eye(SIZE, dtype=np.float32), "The class token takes 0.5 to 2.0 times.")
    monkeypatch.setattr(saliency_pictures, "attribute", lambda *_: found)
    tree = Tree(text := pictures_of(material, GalleryRequest(dataset, 1, saliency="attention")))
    assert "not what moved its answer" in text and "speaks" not in text
    assert [words for words in tree.texts["p"] if words in ("Image", "Attention")] == [
        *("Image", "Attention"),
        *("Image", "Attention"),
    ]
    assert "more than an even share of attention" in tree.texts["li"]
    assert str(tree.named("img")[1]["alt"]).startswith("The same under its map: most attention")


def test_the_map_lies_where_the_answer_comes_from(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    tree = Tree(pictures_of(material, GalleryRequest(dataset, 1)))
    plain, painted = (np.asarray(picture).astype(int) for picture in tree.pictures()[:2])
    assert np.ptp(plain, axis=2).max() == 0
    colour = np.ptp(painted, axis=2)
    side = len(colour)
    assert colour[: side // 3, : side // 3].mean() > 20 > 5 > colour[side // 2 :].mean()


def test_nobody_is_named(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    text = pictures_of(material, GalleryRequest(dataset, 4))
    for sample in dataset.samples:
        for word in (SECRET, sample.sample_id, sample.patient, str(sample.path.parent)):
            assert word not in text


def test_a_model_that_answers_otherwise_is_told(
    material: Material, dataset: Dataset, model: Model, tmp_path: Path
) -> None:
    object.__setattr__(model, "infer", lambda pixels: logits(pixels) + np.float32([0, 2]))
    text = pictures_of(material, GalleryRequest(dataset, 1))
    assert "of these answers have another score now" in text


def test_what_may_not_be_shown_gives_way_to_the_next(
    material: Material,
    dataset: Dataset,
    model: Model,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answers = answers_of(material.runs[0])
    hidden = {answers[0].sample_id} | {answer.sample_id for answer in answers if not answer.right}
    hide(monkeypatch, saliency_pictures, hidden)
    text = pictures_of(material, GalleryRequest(dataset, 1))
    second = next(a for a in answers[1:] if a.right)
    assert f"with a score of {second.score:.3f}" in text and "None that may be shown" in text
    assert len(Tree(text).named("img")) == 2


def test_where_in_words() -> None:
    values = np.zeros((30, 60))
    assert where(values) == "nowhere"
    values[28, 58] = 1
    assert where(values) == "at the bottom right of the picture"
    values[:] = -1
    assert where(values) == "nowhere"
