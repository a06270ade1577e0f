"""NIfTI against nibabel's canonical order and SimpleITK's geometry."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

import nibabel
import numpy as np
import pytest

from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Study


def test_every_odd_file_is_read_exactly_or_refused(shared_data: Path) -> None:
    folder = shared_data / "nifti_odd"
    with (folder / "manifest.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        path = folder / row["file"]
        if row["error"] or "Cifti" in row["nibabel_class"]:
            with pytest.raises(UnreadableFileError):
                read_study(path)
            continue
        study = read_study(path)
        image = nibabel.as_closest_canonical(nibabel.load(path))
        expected = np.asarray(image.get_fdata()).reshape(*image.shape[:3], -1)
        expected = np.moveaxis(expected, (3, 2, 1, 0), (0, 1, 2, 3))
        expected = expected.reshape(-1, *expected.shape[2:])
        np.testing.assert_allclose(study.values(), expected, rtol=1e-6, atol=1e-4)
        assert (
            study.pixels.dtype.isnative
            and study.pixels.dtype.name in row["on_disk_dtype"]
            or (study.pixels.dtype == np.dtype(row["on_disk_dtype"]).newbyteorder("="))
        )
        np.testing.assert_allclose(study.values().min(), float(row["min"]), rtol=1e-6)


def test_real_volumes_have_the_geometry_of_simpleitk(shared_data: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    paths = sorted((shared_data / "ct_mr_3d_totalseg").glob("*.nii.gz"))
    paths += sorted((shared_data / "mr_hippocampus3d" / "images").iterdir())[:10]
    for path in paths:
        study, image = read_study(path), sitk.ReadImage(str(path))
        affine = study.affine()
        assert affine is not None
        rng = np.random.default_rng(0)
        for voxel in rng.integers(0, study.pixels.shape, (20, 3)):
            point = affine @ [*voxel, 1.0]
            index = image.TransformPhysicalPointToContinuousIndex(point[:3].tolist())
            np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
            there = [round(value) for value in index]
            assert abs(study.values()[tuple(voxel)] - image.GetPixel(there)) < 1e-4


def test_ct_is_told_by_air(shared_data: Path) -> None:
    ct = read_study(shared_data / "ct_mr_3d_totalseg" / "example_ct_sm.nii.gz")
    mr = read_study(shared_data / "ct_mr_3d_totalseg" / "example_mr_sm.nii.gz")
    assert (ct.units, ct.modality) == ("HU", "CT") and "-1100" in ct.problems[0]
    assert mr.units == "stored" and not mr.problems


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SAR", "ILP", "PSL"])
def test_any_orientation_becomes_ras(tmp_path: Path, axes: str) -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    ornt = nibabel.orientations.axcodes2ornt(axes)
    start = nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0]))
    turned = start.as_reoriented(
        nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), ornt)
    )
    assert "".join(nibabel.aff2axcodes(turned.affine)) == axes
    nibabel.save(turned, tmp_path / "a.nii.gz")
    study = read_study(tmp_path / "a.nii.gz")
    assert np.array_equal(study.pixels, values.transpose(2, 1, 0))
    assert study.spacing == (4.0, 3.0, 2.0) and study.orientation is not None
    expected = [[0, 0, -1], [0, -1, 0], [1, 0, 0]]  # LPS: up, to anterior, to the right
    np.testing.assert_allclose(study.orientation, expected, atol=1e-6)


def test_displayed_turns_ras_to_what_radiologists_see(tmp_path: Path) -> None:
    values = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([2.0, 3.0, 4.0, 1.0])), tmp_path / "a.nii")
    study = read_study(tmp_path / "a.nii")
    shown = study.displayed()
    assert np.array_equal(shown.pixels, study.pixels[:, ::-1, ::-1])
    expected = np.asarray([[0, 0, 1], [0, 1, 0], [1, 0, 0]])  # rows to posterior, columns to left
    assert shown.orientation is not None
    np.testing.assert_allclose(shown.orientation, expected, atol=1e-6)
    _same_place(study, shown)
    assert shown.displayed() is shown


def _same_place(first: Study, second: Study) -> None:
    one, other = first.affine(), second.affine()
    assert one is not None and other is not None
    rows, columns = first.pixels.shape[1:3]
    np.testing.assert_allclose(one @ [1, 0, 0, 1], other @ [1, rows - 1, columns - 1, 1], atol=1e-6)


def test_frame_is_a_slice(shared_data: Path) -> None:
    path = shared_data / "nifti_odd" / "someones_anatomy.nii.gz"
    whole, one = read_study(path), read_study(path, frame=11)
    assert np.array_equal(one.pixels[0], whole.pixels[11]) and one.rescale == whole.rescale
    affine = whole.affine()
    assert affine is not None
    np.testing.assert_allclose(one.origin, (affine @ [11, 0, 0, 1])[:3])


def test_rgb_volumes_are_colour(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (3, 4, 5, 3), np.uint8)
    structured = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    nibabel.save(nibabel.Nifti1Image(structured, np.eye(4)), tmp_path / "a.nii")
    study = read_study(tmp_path / "a.nii")
    assert study.units == "colour"
    assert np.array_equal(study.pixels, rgb.transpose(2, 1, 0, 3))


def test_complex_numbers_and_cut_files_are_refused(tmp_path: Path) -> None:
    nibabel.save(
        nibabel.Nifti1Image(np.ones((3, 3, 3), np.complex64), np.eye(4)), tmp_path / "a.nii"
    )
    with pytest.raises(UnreadableFileError, match="complex64"):
        read_study(tmp_path / "a.nii")
    nibabel.save(nibabel.Nifti1Image(np.ones((9, 9, 9), np.float32), np.eye(4)), tmp_path / "b.nii")
    raw = (tmp_path / "b.nii").read_bytes()
    (tmp_path / "b.nii").write_bytes(raw[:1000])
    with pytest.raises(UnreadableFileError, match="voxels"):
        read_study(tmp_path / "b.nii")


def test_a_header_alone_is_told(shared_data: Path) -> None:
    with pytest.raises(UnreadableFileError, match=r"\.img file beside it is missing"):
        read_study(shared_data / "nifti_odd" / "analyze.hdr")


@pytest.mark.parametrize(("units", "factor"), [("meter", 1e-3), ("micron", 1e3), ("mm", 1.0)])
def test_metres_and_micrometres_become_millimetres(
    tmp_path: Path, units: str, factor: float
) -> None:
    sitk = pytest.importorskip("SimpleITK")
    affine = np.diag([2.0 * factor, 3.0 * factor, 4.0 * factor, 1.0])
    image = nibabel.Nifti1Image(np.zeros((3, 4, 5), np.int16), affine)
    image.header.set_xyzt_units(units)
    nibabel.save(image, tmp_path / "a.nii")
    spacing = read_study(tmp_path / "a.nii").spacing
    np.testing.assert_allclose(spacing, (4.0, 3.0, 2.0), rtol=1e-6)
    theirs = sitk.ReadImage(str(tmp_path / "a.nii")).GetSpacing()
    np.testing.assert_allclose(spacing, theirs[::-1], rtol=1e-6)


def test_slices_of_a_time_series_know_their_place(shared_data: Path) -> None:
    path = shared_data / "nifti_odd" / "example4d.nii.gz"
    whole = read_study(path)
    depth = whole.num_slices // 2
    for time in (0, 1):
        one = read_study(path, frame=time * depth + 5)
        again = whole.slice(time * depth + 5)
        assert np.array_equal(one.pixels, again.pixels)
        np.testing.assert_allclose(one.origin, whole.slice(5).origin)
        np.testing.assert_allclose(again.origin, whole.slice(5).origin)
        assert np.array_equal(one.slice(0).pixels, one.pixels)


def test_a_wrong_suffix_does_not_matter(tmp_path: Path) -> None:
    """Browsers unpack what they fetch, and leave the name as it was."""
    nibabel.save(
        nibabel.Nifti1Image(np.arange(24, dtype=np.int16).reshape(2, 3, 4), np.eye(4)),
        tmp_path / "a.nii",
    )
    plain = (tmp_path / "a.nii").read_bytes()
    (tmp_path / "unpacked.nii.gz").write_bytes(plain)
    (tmp_path / "packed.nii").write_bytes(gzip.compress(plain))
    expected = read_study(tmp_path / "a.nii").pixels
    for name in ("unpacked.nii.gz", "packed.nii"):
        assert np.array_equal(read_study(tmp_path / name).pixels, expected)


@pytest.mark.parametrize(
    ("sform", "qform", "told"),
    [
        ((1, 1, 1), (1, 1, 1), ""),
        ((1, 1, 1), None, ""),
        ((1, 1, 2), (1, 1, 1.5), ""),
        ((1, 1, 1), (-1, -1, 1), "axes RAS and LPS"),
        (None, None, "does not say where left and right are"),
    ],
)
def test_left_and_right_that_are_not_certain_are_told(
    tmp_path: Path,
    sform: tuple[float, ...] | None,
    qform: tuple[float, ...] | None,
    told: str,
) -> None:
    image = nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.eye(4))
    image.set_sform(None if sform is None else np.diag([*sform, 1.0]), 0 if sform is None else 4)
    image.set_qform(None if qform is None else np.diag([*qform, 1.0]), 0 if qform is None else 1)
    nibabel.save(image, tmp_path / "a.nii")
    problems = read_study(tmp_path / "a.nii").problems
    assert len(problems) == bool(told) and all(told in problem for problem in problems)


def test_bare_pixels_are_told_from_pairs(tmp_path: Path) -> None:
    (tmp_path / "JPCLN001.IMG").write_bytes(bytes(range(256)) * 32)
    with pytest.raises(UnreadableFileError, match="bare pixels"):
        read_study(tmp_path / "JPCLN001.IMG")
