"""Mutated real files: an image or an error that says why; no crash, no hang, bounded memory.

The long run, 20,000 inputs: pytest -m slow tests/studies/test_fuzz.py
"""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from dinorad_rt.errors import DinoradError
from dinorad_rt.studies.read import read_study

MAX_SECONDS = 5.0
MAX_GROWTH = 1 << 20
"""Peak memory may grow by 1 GiB (in KiB, as `getrusage` counts)."""


def sources(shared_data: Path, folder: Path) -> list[Path]:
    """Real and written files of every format, up to 400 kB."""
    grey = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8))
    for suffix in ("png", "jpg", "tif", "bmp", "gif", "webp", "jp2", "pgm"):
        grey.save(folder / f"a.{suffix}")
    np.save(folder / "a.npy", np.ones((3, 9, 9), np.int16))
    np.savez(folder / "a.npz", image=np.ones((3, 9, 9), np.int16))
    with h5py.File(folder / "a.mat", "w") as file:
        file["cjdata/image"] = np.ones((9, 9))
    paths = [p for name in ("dicom_odd", "nifti_odd") for p in (shared_data / name).iterdir()]
    paths += sorted((shared_data / "mri_brain_tumor_yesno" / "no").iterdir())[:4]
    small = [path for path in sorted(paths) if path.stat().st_size < 400_000]
    return [*small, *sorted(folder.iterdir())]


def mutants(paths: list[Path], count: int) -> Iterator[tuple[str, np.ndarray]]:
    """Change a few bytes, mostly near the beginning; cut the file; take a piece out."""
    rng = np.random.default_rng(0)
    contents = [np.fromfile(path, np.uint8) for path in paths]
    for number in range(count):
        raw = contents[number % len(paths)].copy()
        reach = len(raw) if rng.random() < 0.5 else min(len(raw), 2000)
        places = rng.integers(0, reach, int(rng.integers(1, 8)))
        raw[places] = rng.integers(0, 256, len(places))
        if rng.random() < 0.3:
            raw = raw[: rng.integers(1, len(raw))] if len(raw) > 1 else raw
        if rng.random() < 0.1:
            start = int(rng.integers(0, len(raw)))
            raw = np.delete(raw, slice(start, start + int(rng.integers(1, 50))))
        yield paths[number % len(paths)].name, raw


@pytest.mark.parametrize("count", [600, pytest.param(20_000, marks=pytest.mark.slow)])
def test_mutants(shared_data: Path, tmp_path: Path, cache: Path, count: int) -> None:
    (tmp_path / "written").mkdir()
    paths = sources(shared_data, tmp_path / "written")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = {"read": 0, "refused": 0}
    for name, raw in mutants(paths, count):
        raw.tofile(tmp_path / name)
        start = time.perf_counter()
        try:
            assert read_study(tmp_path / name).pixels.size > 0
            outcomes["read"] += 1
        except DinoradError as error:
            assert error.problem and error.fix
            outcomes["refused"] += 1
        assert time.perf_counter() - start < MAX_SECONDS, name
    assert min(outcomes.values()) > count / 10
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < MAX_GROWTH
