"""Volumes from folders of slices: sorted by geometry, checked against SimpleITK."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.series import find_series, load_series, natural_key, read_series


def test_a_real_series_is_that_of_simpleitk(shared_data: Path, cache: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    folder = shared_data / "mr_dicom_series" / "Study1" / "13_HCropVolume"
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    study = read_series(folder)
    np.testing.assert_allclose(study.values(), sitk.GetArrayFromImage(image), atol=1e-4)
    np.testing.assert_allclose(study.spacing, image.GetSpacing()[::-1], atol=1e-4)
    np.testing.assert_allclose(study.origin, image.GetOrigin(), atol=1e-4)
    assert study.orientation is not None
    directions = np.asarray(image.GetDirection()).reshape(3, 3)
    np.testing.assert_allclose(study.orientation[:, ::-1], directions, atol=1e-4)


def test_slices_are_sorted_by_position(write_stack: Any) -> None:
    study = read_study(write_stack("s", [float(h) for h in (30, 10, 50, 20, 40)]))
    assert study.pixels[:, 0, 0].tolist() == [10, 20, 30, 40, 50]
    assert study.spacing == (10.0, 0.5, 0.75) and not study.problems
    assert study.rescale == (1.0, -1024.0) and study.units == "HU"


def test_gaps_duplicates_and_tilt_are_told(write_stack: Any) -> None:
    gap = read_study(write_stack("gap", [0.0, 5.0, 10.0, 25.0, 30.0]))
    assert any("missing (about 2)" in problem for problem in gap.problems)
    uneven = read_study(write_stack("uneven", [0.0, 5.0, 10.0, 15.5, 20.5]))
    assert any("unevenly" in problem for problem in uneven.problems)
    twice = read_study(write_stack("twice", [0.0, 5.0, 5.0, 10.0]))
    assert twice.num_slices == 3
    assert any("position of another one left out: 1" in problem for problem in twice.problems)
    tilted = read_study(write_stack("tilt", [0.0, 5.0, 10.0], shift=np.tan(np.radians(15))))
    assert any("15.0 degrees" in problem for problem in tilted.problems)
    affine = tilted.affine()
    assert affine is not None
    np.testing.assert_allclose(affine @ [2, 0, 0, 1], [0, 10 * np.tan(np.radians(15)), 10, 1])


def test_slices_that_were_all_given_one_uid_are_no_copies(write_stack: Any) -> None:
    study = read_study(write_stack("s", [0.0, 5.0, 10.0], SOPInstanceUID="1.2.3"))
    assert study.num_slices == 3 and not study.problems


def test_a_folder_may_hold_its_one_volume_as_a_file(tmp_path: Path) -> None:
    """As TotalSegmentator has cases; masks in a folder below are no second one."""
    volume = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    (tmp_path / "segmentations").mkdir()
    for name in ("ct.npy", "segmentations/liver.npy"):
        np.save(tmp_path / name, volume)
    (tmp_path / "notes.txt").write_text("of the reader")
    assert np.array_equal(read_study(tmp_path).pixels, volume)
    (tmp_path / "ct.npy").unlink()
    assert np.array_equal(read_study(tmp_path).pixels, volume)
    np.save(tmp_path / "ct.npy", volume)
    np.save(tmp_path / "mr.npy", volume)
    with pytest.raises(UnreadableFileError, match="holds 2 volume files, but one is asked for"):
        read_study(tmp_path)


def test_copies_are_left_out(write_stack: Any) -> None:
    folder = write_stack("s", [0.0, 5.0])
    shutil.copy(next(folder.iterdir()), folder / "copy.dcm")
    study = read_study(folder)
    assert study.num_slices == 2 and any(
        "copies of other files left out: 1" in problem for problem in study.problems
    )


def test_localisers_and_echoes_are_volumes_of_their_own(write_stack: Any, tmp_path: Path) -> None:
    write_stack("all/axial", [0.0, 5.0, 10.0], EchoTime=10)
    write_stack("all/second", [0.0, 5.0, 10.0], EchoTime=90)
    write_stack("all/scout", [0.0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    found = find_series(tmp_path / "all")
    assert sorted(len(one.files) for one in found) == [1, 3, 3]
    assert len({one.key for one in found}) == 3
    with pytest.raises(UnreadableFileError, match="3 volumes") as caught:
        read_series(tmp_path / "all")
    assert found[0].key in caught.value.problem
    assert read_series(tmp_path / "all", series=found[0].key).num_slices == 3


def test_rescale_that_differs_by_slice_is_applied(write_dicom: Any) -> None:
    for number, slope in enumerate((2.0, 3.0)):
        path = write_dicom(
            f"pet/{number}.dcm",
            np.full((4, 4), 10, np.uint16),
            Modality="PT",
            SeriesInstanceUID="1.2",
            ImagePositionPatient=[0, 0, number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            RescaleSlope=slope,
            RescaleIntercept=1,
        )
    study = read_study(path.parent)
    assert study.pixels[:, 0, 0].tolist() == [21.0, 31.0] and study.rescale == (1.0, 0.0)


def test_what_a_series_mixes_is_split_and_said(write_stack: Any, tmp_path: Path) -> None:
    write_stack("all/axial", [0.0, 5.0, 10.0])
    write_stack("all/scout", [0.0], ImageOrientationPatient=[0, 1, 0, 0, 0, -1])
    write_stack("all/zoomed", [0.0, 5.0], PixelSpacing=[0.25, 0.25])
    write_stack("all/moved", [0.0, 5.0], FrameOfReferenceUID="1.9")
    write_stack("all/other", [0.0], PatientID="MRN-9999")
    found = find_series(tmp_path / "all")
    assert sorted(len(one.files) for one in found) == [1, 1, 2, 2, 3]
    for what in ("2 orientations", "2 pixel spacings", "2 frames of reference", "2 patients"):
        assert all(f"the series mixes {what}: one volume for each" in one.problems for one in found)


def test_orientations_that_differ_by_rounding_are_one_volume(
    write_stack: Any, tmp_path: Path
) -> None:
    for height, tiny in enumerate((0.0049, 0.0051, 0.005)):
        write_stack(
            f"s/{height}", [float(height)], ImageOrientationPatient=[1, tiny, 0, -tiny, 1, 0]
        )
    (one,) = find_series(tmp_path / "s")
    assert len(one.files) == 3 and not one.problems


def test_volumes_at_one_place_are_told_apart_by_what_differs(
    write_stack: Any, tmp_path: Path
) -> None:
    write_stack("all/first", [0.0, 5.0], EchoTime=10)
    write_stack("all/second", [0.0, 5.0], EchoTime=90)
    for one in find_series(tmp_path / "all"):
        assert one.problems == ("2 volumes at one place, told apart by EchoTime",)


def test_missing_geometry_is_told(write_stack: Any) -> None:
    folder = write_stack("s", [0.0, 5.0, 10.0])
    import pydicom

    path = sorted(folder.iterdir())[1]
    dataset = pydicom.dcmread(path)
    del dataset.ImagePositionPatient
    dataset.save_as(path)
    study = read_study(folder)
    assert study.num_slices == 3
    assert any("without position in 1 of 3 files" in problem for problem in study.problems)
    for path in folder.iterdir():
        dataset = pydicom.dcmread(path)
        del dataset.ImageOrientationPatient
        dataset.save_as(path)
    assert any("without orientation" in problem for problem in read_study(folder).problems)


def test_a_cut_slice_refuses_the_volume_with_the_reason(write_stack: Any) -> None:
    folder = write_stack("s", [0.0, 5.0, 10.0])
    path = sorted(folder.iterdir())[1]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UnreadableFileError, match="less than expected") as caught:
        read_study(folder)
    assert path.name in caught.value.problem


def test_inverted_slices_do_not_join_others(write_stack: Any, tmp_path: Path) -> None:
    write_stack("all/a", [0.0, 5.0])
    write_stack("all/b", [10.0], PhotometricInterpretation="MONOCHROME1")
    with pytest.raises(UnreadableFileError, match="photometric"):
        read_study(tmp_path / "all")


def test_windows_go_with_their_slices(write_dicom: Any) -> None:
    for number in range(3):
        path = write_dicom(
            f"mr/{number}.dcm",
            np.full((4, 4), 10, np.uint16),
            Modality="MR",
            SeriesInstanceUID="1.2",
            ImagePositionPatient=[0, 0, number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            WindowCenter=100 + number,
            WindowWidth=50,
        )
    study = read_study(path.parent)
    assert [study.slice(n).windows[0].centre for n in range(3)] == [100, 101, 102]
    assert read_study(path).windows == study.slice(2).windows and not study.slice(2).slice_windows


def test_padding_of_rescaled_slices_becomes_nan(write_dicom: Any) -> None:
    for number, slope in enumerate((2.0, 3.0)):
        path = write_dicom(
            f"pet/{number}.dcm",
            np.array([[0, 10]], np.uint16),
            Modality="PT",
            SeriesInstanceUID="1.2",
            ImagePositionPatient=[0, 0, number],
            ImageOrientationPatient=[1, 0, 0, 0, 1, 0],
            RescaleSlope=slope,
            RescaleIntercept=1,
            PixelPaddingValue=0,
        )
    study = read_study(path.parent)
    assert study.padding is None and np.isnan(study.pixels[:, 0, 0]).all()
    assert study.pixels[:, 0, 1].tolist() == [21.0, 31.0]


def test_one_and_many_threads_read_the_same_volume(shared_data: Path, cache: Path) -> None:
    (series,) = find_series(shared_data / "mr_dicom_series" / "Study1" / "13_HCropVolume")
    one, many = load_series(series, workers=1), load_series(series, workers=7)
    assert np.array_equal(one.pixels, many.pixels) and one.slice_windows == many.slice_windows


def test_slices_of_other_size_are_another_volume(write_stack: Any, write_dicom: Any) -> None:
    folder = write_stack("s", [0.0, 5.0])
    write_dicom("s/x.dcm", np.zeros((8, 8), np.int16), SeriesInstanceUID="1.2.3.4")
    with pytest.raises(UnreadableFileError, match="2 volumes"):
        read_study(folder)


def test_raster_slices_are_ordered_by_number(tmp_path: Path, cache: Path) -> None:
    for number in (10, 9, 1, 2):
        Image.fromarray(np.full((3, 3), number, np.uint8)).save(tmp_path / f"slice {number}.png")
    (tmp_path / ".hidden.png").write_bytes(b"x")
    assert read_study(tmp_path).pixels[:, 0, 0].tolist() == [1, 2, 9, 10]
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "slice 11.png")
    with pytest.raises(UnreadableFileError, match="differ in size"):
        read_study(tmp_path)


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFileError, match="no images"):
        read_study(tmp_path)


def test_natural_order() -> None:
    names = [Path(name) for name in ("b10", "b9", "B1", "a", "b9a")]
    assert [p.name for p in sorted(names, key=natural_key)] == ["a", "B1", "b9", "b9a", "b10"]
