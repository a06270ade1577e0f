"""Images with masks, judged by a segmenter that anybody can follow: it thresholds the grey."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dinorad_rt.datasets.dataset import Dataset
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.embeddings.provenance import dataset_facts
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation.evaluate import judge_cases, segment_cases, write_results
from dinorad_rt.training.segmentation.predict import SliceSegmenter

CLASSES = ("background", "lung", "heart <b>")
GREY = (20, 110, 210)
SIZE = 64
SPLITS = ("train", "val", "test", "test", "test", "test", "test")
SECRET = "QXPATIENT"
"""Part of every file's name; the page may not hold it."""
PLAIN: dict[str, Any] = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
SPEC = PreprocessSpec(SIZE, **PLAIN, intensity="range")


def write_images(folder: Path, splits: tuple[str, ...] = SPLITS) -> Dataset:
    """Two boxes on each image; image n shows its lung n pixels too low, so that Dice falls."""
    rows = ["image,mask,split"]
    for index, split in enumerate(splits):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        mask[10:40, 8:26] = 1
        mask[30:50, 40:56] = 2
        shifted = np.where(mask == 2, 2, np.roll(mask == 1, index, axis=0))
        for part, pixels in (("images", np.asarray(GREY)[shifted]), ("masks", mask)):
            (folder / part).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / part / f"{SECRET}{index}.png")
        rows.append(f"images/{SECRET}{index}.png,masks/{SECRET}{index}.png,{split}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return open_dataset(folder, task="segmentation", class_names=CLASSES)


def thresholds() -> SliceSegmenter:
    """Grey above 65 is lung, above 160 heart."""

    def scores(pixels: np.ndarray) -> np.ndarray:
        grey = 255 * pixels[:, 0]
        found = np.stack([65 - grey, np.minimum(grey - 65, 160 - grey), grey - 160], axis=1)
        return found.astype(np.float32)

    return SliceSegmenter(SPEC, len(CLASSES), scores)


def judged(dataset: Dataset, folder: Path, **provenance: Any) -> Path:
    """Results of that segmenter, written as `eval --checkpoint` writes them."""
    cases, failed = segment_cases(thresholds(), dataset, dataset.of_split("test"), tolerance=1.0)
    assert not failed
    engine = {"model": "thresholds", "key": "e" * 64, "weights_kind": "file", "backend": "openvino"}
    facts = {
        "run": "c" * 64,
        "engine": engine,
        "preprocessing": SPEC.as_dict(),
        "dataset": dataset_facts(dataset),
    }
    settings = {"protocol": {"method": "thresholds"}}
    results = judge_cases(
        cases, dataset, settings=settings, provenance=facts | provenance, tolerance=1.0
    )
    write_results(results, cases, folder)
    return folder
