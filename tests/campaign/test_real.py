"""A study through real engines, and pictures of its runs; slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.campaign import run_study
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.reports.gallery import GalleryRequest, gallery_for
from dinorad_rt.reports.material import Material, read_material
from dinorad_rt.reports.measured import measure_engines
from dinorad_rt.reports.report import Extras, write_report

STUDY = """
title = "Real engines"
plots = ["svg"]
[defaults]
backend = "pytorch"
[[models]]
name = "deit_tiny_patch16_224"
weights = "random"
[[datasets]]
name = "squares"
data = "images"
[[protocols]]
protocol = "knn"
settings = { ks = [1, 3], resamples = 100 }
[[protocols]]
protocol = "knn"
settings = { ks = [100] }
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright and dark squares in two class folders per split."""
    root = tmp_path_factory.mktemp("study") / "images"
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3), ("test", 4)):
        for label, level in (("dark", 60), ("bright", 180)):
            for number in range(count):
                pixels = random.integers(0, 40, (48, 48)).astype(np.uint8)
                pixels[12:36, 12:36] += level
                target = root / split / label / f"{number}.png"
                target.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(target)
    return root


@pytest.mark.slow
def test_a_study_runs_fails_in_part_and_shows_pictures(
    images: Path, cache: Path, tmp_path: Path
) -> None:
    study = images.parent / "study.toml"
    study.write_text(STUDY)
    out = tmp_path / "out"
    outcome = run_study(study, out=out, workers=1)
    assert len(outcome.done) == 1 and len(outcome.failed) == 1
    (why,) = outcome.failed.values()
    assert "100" in why and "18" in why
    page = (out / "report" / "report.html").read_text()
    assert "weights: random" in page and list((out / "report" / "plots").glob("*.svg"))

    material = read_material([out])
    (run,) = material.runs
    assert run.engine["key"] == run.results.provenance["engine"]["key"]
    timed = measure_engines(material.runs, seconds=0.2, repeats=1)
    assert {row["engine_key"] for row in timed["rows"]} == {run.engine["key"]}
    material = Material(material.runs, material.test_sets, (timed,))
    pictures = gallery_for(material, GalleryRequest(open_dataset(images), queries=2))
    write_report(material, tmp_path / "again", Extras(gallery=pictures))
    page = (tmp_path / "again" / "report.html").read_text()
    assert page.count("data:image/png") == 2 * (1 + 5) + 2 * 2
    assert "Joined on the engine key" in page
    assert str(images) not in page and str(tmp_path) not in page
