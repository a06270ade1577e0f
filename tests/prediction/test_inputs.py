"""What a folder holds: volumes as one item, projections and raster images each as its own."""

from __future__ import annotations

import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.embeddings.decode import Bad
from dinorad_rt.errors import EmptyDataError
from dinorad_rt.phantoms import write_phantoms
from dinorad_rt.prediction.inputs import ahead, find_items, fingerprint


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_phantoms(tmp_path_factory.mktemp("set") / "p", patients=8, image_size=64)


def test_volumes_and_images_are_items(phantoms: Path) -> None:
    items = find_items(phantoms / "ct")
    folders = {item.files[0].parent for item in items if item.series is not None}
    assert len(folders) == len([item for item in items if item.series is not None])
    for item in items:
        if item.series is not None:
            study = item.read()
            assert not isinstance(study, Bad) and study.num_slices == len(item.files) > 1
    xrays = find_items(phantoms / "xray")
    names = {item.name for item in xrays if item.name.endswith(".dcm")}
    assert names == {
        path.relative_to(phantoms / "xray").as_posix()
        for path in (phantoms / "xray").rglob("*.dcm")
    }


def test_two_views_of_one_radiographic_series_are_two_items(phantoms: Path, tmp_path: Path) -> None:
    import pydicom

    source = sorted((phantoms / "xray").rglob("*.dcm"))[:2]
    for index, path in enumerate(source):
        file = pydicom.dcmread(path)
        file.SeriesInstanceUID = "1.2.3"
        file.save_as(tmp_path / f"{index}.dcm")
    assert [len(item.files) for item in find_items(tmp_path)] == [1, 1]


def test_keys_follow_the_name_below_the_folder(tmp_path: Path, cache: Path) -> None:
    for top in ("a", "b"):
        (tmp_path / top / "Doe^John").mkdir(parents=True)
        Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / top / "Doe^John" / "1.png")
    first, second = (find_items(tmp_path / top)[0] for top in ("a", "b"))
    assert first.key == second.key and "Doe" not in first.key
    assert find_items(tmp_path / "a" / "Doe^John" / "1.png")[0].name == "1.png"
    assert fingerprint([first]) == fingerprint([second])


def test_damaged_files_are_items_with_a_reason_and_others_are_none(
    tmp_path: Path, phantoms: Path
) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    source, other = sorted((phantoms / "xray").rglob("*.dcm"))[:2]
    (tmp_path / "broken.dcm").write_bytes(other.read_bytes()[:-1000])
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n nothing")
    shutil.copy(source, tmp_path / "good.dcm")
    told: list[str] = []
    found = {item.name: item.read() for item in find_items(tmp_path, told.append)}
    assert len(told) == 1 and told[0].endswith(": 1")
    assert set(found) == {"broken.dcm", "broken.png", "good.dcm"}
    assert isinstance(found["broken.png"], Bad) and isinstance(found["broken.dcm"], Bad)
    assert not isinstance(found["good.dcm"], Bad)


def test_nothing_to_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(EmptyDataError, match="exist"):
        find_items(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(EmptyDataError, match="1 file, but no image"):
        find_items(tmp_path)


def test_reading_ahead_is_bounded_and_in_order() -> None:
    running, most, lock = [0], [0], threading.Lock()

    def slow(index: int) -> int:
        with lock:
            running[0] += 1
        time.sleep(0.002 * (index % 3))
        return index

    for index, result in ahead(slow, range(40), workers=3, limit=5):
        assert result == index
        with lock:
            most[0] = max(most[0], running[0] - index)
    assert most[0] <= 5 + 2


def test_an_image_without_numbers_gets_no_answer(tmp_path: Path) -> None:
    """NaN everywhere is black after preprocessing, and black is no finding."""
    np.save(tmp_path / "a.npy", np.full((3, 8, 8), np.nan, np.float32))
    np.save(tmp_path / "b.npy", np.where(np.eye(8) > 0, np.nan, 1.0).astype(np.float32))
    first, second = (item.read() for item in find_items(tmp_path))
    assert isinstance(first, Bad) and "finite" in first.reason
    assert not isinstance(second, Bad)
