"""Masks in files, read again by nibabel, SimpleITK and highdicom."""

from __future__ import annotations

import warnings
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest
import SimpleITK
from PIL import Image

from dinorad_rt.errors import DataError
from dinorad_rt.phantoms import write_phantoms
from dinorad_rt.prediction.inputs import Item, find_items
from dinorad_rt.prediction.masks import write_dicom_seg, write_nifti
from dinorad_rt.prediction.overlays import GAP, LINE, SIDE_OF_IMAGE, SIDE_OF_SLICE, write_overlay
from dinorad_rt.prediction.segment import volumes_ml
from dinorad_rt.reports.fonts import picture_font
from dinorad_rt.reports.palette import COLOURS, rgb_of
from dinorad_rt.reports.viewing import wrapped_words
from dinorad_rt.studies.study import Study
from dinorad_rt.training.segmentation.grid import undisplayed

CLASSES = ("background", "bone", "rest")


def read(item: Item) -> Study:
    study = item.read()
    assert isinstance(study, Study)
    return study


def bright_mask(study: Study) -> np.ndarray:
    values = study.values()
    low, high = np.percentile(values, (60, 90))
    return (values > low).astype(np.uint8) + (values > high).astype(np.uint8)


@pytest.fixture(scope="module")
def ct_item(tmp_path_factory: pytest.TempPathFactory) -> Item:
    root = write_phantoms(tmp_path_factory.mktemp("set") / "p", patients=8, image_size=64)
    return next(item for item in find_items(root / "ct") if len(item.files) > 1)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "ASR", "PIL", "SLA"])
def test_a_nifti_mask_has_the_axes_and_the_affine_of_its_image(tmp_path: Path, codes: str) -> None:
    rng = np.random.default_rng(0)
    base = nibabel.Nifti1Image(
        rng.standard_normal((9, 7, 5)).astype(np.float32),
        np.array([[1.5, 0.1, 0, -8], [-0.1, 2, 0, 3], [0, 0, 3, 11], [0, 0, 0, 1.0]]),
    )
    turn = nibabel.orientations.ornt_transform(
        nibabel.io_orientation(base.affine), nibabel.orientations.axcodes2ornt(codes)
    )
    nibabel.save(base.as_reoriented(turn), tmp_path / "image.nii")
    (item,) = find_items(tmp_path)
    study = read(item)
    mask = bright_mask(study)
    write_nifti(tmp_path / "out" / "mask.nii.gz", mask, study, item)
    image, found = nibabel.load(tmp_path / "image.nii"), nibabel.load(tmp_path / "out/mask.nii.gz")
    np.testing.assert_array_equal(found.affine, image.affine)
    assert nibabel.aff2axcodes(found.affine) == tuple(codes)
    values = image.get_fdata()
    low, high = np.percentile(values, (60, 90))
    np.testing.assert_array_equal(
        np.asarray(found.dataobj), (values > low).astype(int) + (values > high)
    )


def test_a_slice_and_a_file_without_suffix_have_masks_of_their_own_shape(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = nibabel.Nifti1Image(rng.random((9, 7), np.float32), np.diag([-1.5, -2, 3, 1]))
    nibabel.save(image, tmp_path / "slice.nii")
    (tmp_path / "slice.nii").rename(tmp_path / "slice")
    (item,) = find_items(tmp_path)
    study = read(item)
    write_nifti(tmp_path / "out" / "mask.nii.gz", bright_mask(study), study, item)
    found = nibabel.load(tmp_path / "out" / "mask.nii.gz")
    assert found.shape == (9, 7) and np.array_equal(found.affine, image.affine)
    values = image.get_fdata()
    low, high = np.percentile(values, (60, 90))
    assert np.array_equal(np.asarray(found.dataobj), (values > low).astype(int) + (values > high))


def test_a_nifti_mask_of_dicom_lies_where_simpleitk_reads_the_series(
    ct_item: Item, tmp_path: Path
) -> None:
    study = read(ct_item)
    mask = bright_mask(study)
    write_nifti(tmp_path / "mask.nii.gz", mask, study, ct_item)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames([str(file) for file in ct_item.files])
    image, found = reader.Execute(), SimpleITK.ReadImage(str(tmp_path / "mask.nii.gz"))
    for index in ((3, 4, 1), (20, 9, 2)):
        point = image.TransformIndexToPhysicalPoint(index)
        other = found.TransformPhysicalPointToIndex(point)
        hu = SimpleITK.GetArrayFromImage(image)[index[::-1]]
        low, high = np.percentile(study.values(), (60, 90))
        assert found.GetPixel(other) == int(hu > low) + int(hu > high)


def test_a_dicom_seg_has_the_geometry_of_its_series(ct_item: Item, tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom")
    study = read(ct_item)
    mask = bright_mask(study)
    target = tmp_path / "seg.dcm"
    write_dicom_seg(target, mask, ct_item, CLASSES, model="tiny", version="1")
    found = hd.seg.segread(target)
    assert [item.SegmentLabel for item in found.SegmentSequence] == ["bone", "rest"]
    volume = found.get_volume(combine_segments=True)
    affine = study.affine()
    assert affine is not None
    spots = np.argwhere(mask > 0)
    for spot in spots[:: max(1, len(spots) // 50)]:
        point = affine @ [*spot, 1.0]
        index = np.linalg.solve(volume.affine, point)[:3]
        np.testing.assert_allclose(index, np.rint(index), atol=1e-3)
        assert volume.array[tuple(np.rint(index).astype(int))] == mask[tuple(spot)]
    assert int((volume.array > 0).sum()) == int((mask > 0).sum())
    assert SimpleITK.ReadImage(str(target)).GetSize()[:2] == mask.shape[:0:-1]


def test_a_dicom_seg_says_nothing_of_its_patient(ct_item: Item, tmp_path: Path) -> None:
    """highdicom warns of names of one component, with the name; warnings are errors here."""
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("highdicom")
    for file in ct_item.files:
        dataset = pydicom.dcmread(file)
        dataset.PatientName = "DOE"
        dataset.save_as(tmp_path / file.name)
    (item,) = find_items(tmp_path)
    mask = bright_mask(read(item))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        write_dicom_seg(tmp_path / "out" / "s.dcm", mask, item, CLASSES, model="t", version="1")
    assert not told


def test_archives_that_drop_attributes_get_a_dicom_seg(ct_item: Item, tmp_path: Path) -> None:
    """As a real series of The Cancer Imaging Archive does; what cannot be mended is told."""
    hd, pydicom = pytest.importorskip("highdicom"), pytest.importorskip("pydicom")
    for file in ct_item.files:
        dataset = pydicom.dcmread(file)
        for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"):
            if keyword in dataset:
                delattr(dataset, keyword)
        dataset.save_as(tmp_path / file.name)
    (item,) = find_items(tmp_path)
    mask = bright_mask(read(item))
    write_dicom_seg(tmp_path / "out" / "seg.dcm", mask, item, CLASSES, model="t", version="1")
    assert not hd.seg.segread(tmp_path / "out" / "seg.dcm").PatientBirthDate
    for file in item.files:
        dataset = pydicom.dcmread(file)
        del dataset.FrameOfReferenceUID
        dataset.save_as(file)
    with pytest.raises(DataError, match="Frame Of Reference UID"):
        write_dicom_seg(tmp_path / "a.dcm", mask, item, CLASSES, model="t", version="1")


def test_a_mask_without_findings_is_a_dicom_seg_of_empty_frames(
    ct_item: Item, tmp_path: Path
) -> None:
    hd = pytest.importorskip("highdicom")
    empty = np.zeros(read(ct_item).pixels.shape, np.uint8)
    write_dicom_seg(tmp_path / "a.dcm", empty, ct_item, CLASSES, model="t", version="1")
    found = hd.seg.segread(tmp_path / "a.dcm")
    assert [item.SegmentLabel for item in found.SegmentSequence] == list(CLASSES[1:])
    assert found.NumberOfFrames == len(empty) * (len(CLASSES) - 1)
    assert not found.pixel_array.any()


def test_a_dicom_seg_needs_dicom_of_its_own_frames(ct_item: Item, tmp_path: Path) -> None:
    empty = np.zeros(read(ct_item).pixels.shape, np.uint8)
    with pytest.raises(DataError, match="frames"):
        write_dicom_seg(tmp_path / "a.dcm", empty[1:] + 1, ct_item, CLASSES, model="t", version="1")
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "x.png")
    (item,) = find_items(tmp_path / "x.png")
    with pytest.raises(DataError, match="none"):
        write_dicom_seg(tmp_path / "a.dcm", empty, item, CLASSES, model="t", version="1")
    assert not (tmp_path / "a.dcm").exists()


def test_flips_for_display_are_undone() -> None:
    rng = np.random.default_rng(0)
    for signs in ((1, 1), (1, -1), (-1, 1), (-1, -1)):
        axes = np.array([[0, 0, signs[1]], [0, signs[0], 0], [1, 0, 0]], float)
        study = Study(
            rng.random((3, 5, 4)), spacing=(3, 1, 2), orientation=axes, origin=(0.0, 0.0, 0.0)
        )
        shown = study.displayed().pixels
        np.testing.assert_array_equal(undisplayed(shown, study), study.pixels)


def test_volumes_are_voxels_times_spacing() -> None:
    study = Study(np.zeros((2, 3, 4)), spacing=(5.0, 2.0, 0.5))
    mask = np.zeros((2, 3, 4), np.uint8)
    mask[0, :2, :2], mask[1, 0, 0] = 1, 2
    np.testing.assert_allclose(volumes_ml(mask, study, 3), [0.02, 0.005])
    assert np.isnan(volumes_ml(mask, Study(mask), 3)).all()


def test_overlays_colour_the_mask_and_nothing_else(ct_item: Item, tmp_path: Path) -> None:
    study = read(ct_item)
    mask = np.zeros(study.pixels.shape, np.uint8)
    mask[:, 6:26, 4:24] = 1
    for name, given in (("with", mask), ("without", mask * 0)):
        write_overlay(tmp_path / f"{name}.png", given, study, CLASSES)
    pictures = [
        np.asarray(Image.open(tmp_path / f"{n}.png")).astype(int) for n in ("with", "without")
    ]
    assert pictures[0].shape == pictures[1].shape
    changed = np.abs(pictures[0] - pictures[1]).sum(axis=2) > 0
    tiles = min(9, len(mask))
    columns = int(np.ceil(np.sqrt(tiles)))
    down = SIDE_OF_SLICE + LINE + GAP
    height = down * -(-tiles // columns)
    assert not changed[height:].any()
    first = changed[:SIDE_OF_SLICE, : (changed.shape[1] - GAP * (columns - 1)) // columns]
    assert first.mean() == pytest.approx(20 * 20 / mask[0].size, rel=0.2)
    grey = pictures[0][:height][~changed[:height]]
    assert np.ptp(grey, axis=1).max() == 0
    numbers = pictures[0][SIDE_OF_SLICE : SIDE_OF_SLICE + LINE, :80]
    assert numbers.max() > 200  # each slice says which it is


def test_a_single_image_stands_beside_its_overlay(tmp_path: Path) -> None:
    """The colour of a class is the one that it has in reports."""
    study = Study(np.full((1, 40, 30), 7.0), spacing=(1.0, 1.0, 1.0))
    mask = np.zeros((1, 40, 30), np.uint8)
    mask[0, 10:30, 5:25] = 1
    write_overlay(tmp_path / "one.png", mask, study, ("background", "lung"))
    picture = np.asarray(Image.open(tmp_path / "one.png")).astype(int)
    wide = round(SIDE_OF_IMAGE * 30 / 40)
    assert picture.shape == (SIDE_OF_IMAGE + LINE + GAP + 2 * LINE, 2 * wide + GAP, 3)
    plain, painted = picture[:SIDE_OF_IMAGE, :wide], picture[:SIDE_OF_IMAGE, wide + GAP :]
    assert np.ptp(plain, axis=2).max() == 0
    coloured = np.ptp(painted, axis=2) > 0
    assert coloured.mean() == pytest.approx(20 * 20 / (40 * 30), rel=0.1)
    key = picture[SIDE_OF_IMAGE + LINE + GAP + 8, 12]
    assert COLOURS[0] == "#" + "".join(f"{value:02X}" for value in key)


def test_a_legend_has_room_for_many_classes_and_for_long_names(tmp_path: Path) -> None:
    """Each class keeps its colour, also beside many; what does not fit in width goes below."""
    study = Study(np.zeros((1, 40, 30)), spacing=(1.0, 1.0, 1.0))
    mask = np.zeros((1, 40, 30), np.uint8)
    mask[0, 5:15, 5:25], mask[0, 25:35, 5:25] = 1, 19
    shapes = {}
    for number, name in ((20, "c"), (20, "x" * 300), (104, "c"), (1, "肝")):
        path = tmp_path / f"{number}{name[:2]}.png"
        write_overlay(path, mask, study, ("background", *[name] * max(number, 20))[: number + 1])
        shapes[number, name[:2]] = np.asarray(Image.open(path)).astype(int)
    few, long, many = shapes[20, "c"], shapes[20, "xx"], shapes[104, "c"]
    below = SIDE_OF_IMAGE + LINE + GAP
    wide = round(SIDE_OF_IMAGE * 30 / 40)
    assert few.shape == (below + LINE * (7 + 1), 2 * wide + GAP, 3)  # three columns
    assert long.shape == (below + LINE * (20 + 1), 2 * wide + GAP, 3)
    assert many.shape[0] < below + LINE * 20 and many[-LINE:, :400].max() > 200
    for index, row, column in ((1, 0, 0), (19, 4, 2)):
        left = column * (few.shape[1] // 3) + 12
        assert tuple(few[below + LINE * row + 8, left]) == rgb_of(index)
    painted = few[:SIDE_OF_IMAGE, wide + GAP :]
    for row, index in ((10, 1), (30, 19)):
        found = painted[SIDE_OF_IMAGE * row // 40, wide // 2]
        np.testing.assert_allclose(found, 0.45 * np.asarray(rgb_of(index)), atol=2)


def test_letters_of_names_are_drawn_one_by_one(tmp_path: Path) -> None:
    """A font that lacks letters draws the same box for each of them."""
    font = picture_font()
    boxes = {bytes(font.getmask(letter)) for letter in "äößéñłжЖπ–"}
    assert len(boxes) == 10
    words = "The class token takes 0.6 to 1.7 times an even share from a patch. " * 3
    lines = wrapped_words(words, 300)
    assert " ".join(lines) == words.strip() and max(map(font.getlength, lines)) <= 300
    assert wrapped_words("x" * 200, 300) == ["x" * 200] and wrapped_words("", 9) == [""]


def test_segments_have_the_colours_and_the_names_of_their_classes(
    ct_item: Item, tmp_path: Path
) -> None:
    """Also behind a class that is absent, and beside a patient whose name is in Latin-1."""
    hd = pytest.importorskip("highdicom")
    sources = []
    for file in ct_item.files:
        dataset = pydicom.dcmread(file)
        dataset.SpecificCharacterSet, dataset.PatientName = "ISO_IR 100", "Müller^Jörg"
        sources.append(tmp_path / file.name)
        dataset.save_as(sources[-1])
    (item,) = (one for one in find_items(tmp_path) if len(one.files) > 1)
    mask = np.zeros(read(item).pixels.shape, np.uint8)
    mask[:, 2:9, 2:9], mask[:, 12:20, 2:9] = 2, 3
    names = ("background", "absent", "Größe – 肝臓 <b>печень</b>", "left\\right")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        write_dicom_seg(tmp_path / "seg.dcm", mask, item, names, model="Modell Ö", version="1")
    found = hd.seg.segread(tmp_path / "seg.dcm")
    assert [one.SegmentLabel for one in found.SegmentSequence] == [names[2], "left/right"]
    assert str(found.PatientName) == "Müller^Jörg" and found.ManufacturerModelName == "Modell Ö"
    assert found.SeriesDescription == "Segmentation by Modell Ö"
    for segment, index in zip(found.SegmentSequence, (2, 3), strict=True):
        colour = hd.color.CIELabColor.from_dicom_value(segment.RecommendedDisplayCIELabValue)
        np.testing.assert_allclose(colour.to_rgb(), rgb_of(index), atol=1)
    write_dicom_seg(
        tmp_path / "plain.dcm", mask, item, ("bg", "a", "b", "c"), model="m", version="1"
    )
    assert pydicom.dcmread(tmp_path / "plain.dcm").SpecificCharacterSet == "ISO_IR 100"
