"""MetaImage and NRRD as SimpleITK writes them, against nibabel's reading of the same volume."""

from __future__ import annotations

from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk

from dinorad_rt.datasets.grid import grid_of
from dinorad_rt.datasets.open import open_dataset
from dinorad_rt.errors import UnreadableFileError
from dinorad_rt.prediction.inputs import find_items
from dinorad_rt.prediction.masks import write_nifti
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Study

ENDS = (".mha", ".mhd", ".nrrd", ".nhdr")
DIRECTIONS = {
    "LPS": (1, 0, 0, 0, 1, 0, 0, 0, 1),
    "RAS": (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    "oblique": (0, 0, 1, 0.6, 0.8, 0, -0.8, 0.6, 0),
}


def volume(direction: str = "LPS", dtype: str = "int16") -> sitk.Image:
    """(x, y, z) = (6, 5, 4), a value of its own in each voxel."""
    image = sitk.GetImageFromArray(np.arange(4 * 5 * 6).reshape(4, 5, 6).astype(dtype))
    image.SetSpacing((0.5, 0.75, 3.0))
    image.SetOrigin((-10.0, 20.0, 30.0))
    image.SetDirection(DIRECTIONS[direction])
    return image


def written(image: sitk.Image, path: Path, *, packed: bool = False) -> Path:
    sitk.WriteImage(image, str(path), packed)
    return path


def same(found: Study, expected: Study) -> None:
    assert np.array_equal(found.pixels, expected.pixels)
    assert found.pixels.dtype == expected.pixels.dtype
    assert (found.units, found.modality) == (expected.units, expected.modality)
    wanted, given = expected.affine(), found.affine()
    assert wanted is not None and given is not None
    np.testing.assert_allclose(given, wanted, atol=1e-4)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_volume_is_that_of_its_nifti_file(
    tmp_path: Path, end: str, direction: str, packed: bool
) -> None:
    image = volume(direction)
    path = written(image, tmp_path / f"a{end}", packed=packed)
    nifti = written(image, tmp_path / "b.nii")
    same(read_study(path), read_study(nifti))
    same(read_study(path, frame=1), read_study(nifti, frame=1))
    assert grid_of(path).difference(grid_of(nifti)) == ""


@pytest.mark.parametrize("end", ENDS)
def test_real_volumes(shared_data: Path, tmp_path: Path, end: str) -> None:
    for source in sorted((shared_data / "ct_mr_3d_totalseg").glob("example_??_sm.nii.gz")):
        path = written(sitk.ReadImage(str(source)), tmp_path / f"{source.stem}{end}", packed=True)
        same(read_study(path), read_study(source))


NRRD = """NRRD0005
# written by hand
{type}dimension: 3
sizes: 6 5 4
endian: big
encoding: raw
{place}

"""
METAIMAGE = """NDims = 3
{place}
ElementType = MET_SHORT
DimSize = 6 5 4
ElementDataFile = LOCAL
"""


@pytest.mark.parametrize(
    "end, text",
    [
        (".nrrd", NRRD.format(type="type: short int\n", place=place))
        for place in (
            "space: right-anterior-superior\nspace directions: (0,2,0) (3,0,0) (0,0,-4)\n"
            "space origin: (10,20,30)",
            "space: LAS\nspace directions: (2,0,0) (0,3,0) (0,0,4)\nspace origin: (1,2,3)",
            "spacings: 2 3 4\nkinds: domain domain domain",
            "content: no place at all",
        )
    ]
    + [
        (".mha", METAIMAGE.format(place=place))
        for place in (
            "ElementByteOrderMSB = True\nElementSize = 2 3 4\nOrigin = 1 2 3",
            "BinaryDataByteOrderMSB = True\nRotation = 0 1 0 1 0 0 0 0 -1\nElementSpacing = 2 3 4",
            "ElementByteOrderMSB = True\nHeaderSize = -1\nComment = a = b: c",
        )
    ],
)
def test_headers_of_other_programs_are_read_as_itk_does(
    tmp_path: Path, end: str, text: str
) -> None:
    path = tmp_path / f"a{end}"
    path.write_bytes(text.encode() + np.arange(120, dtype=">i2").tobytes())
    same(read_study(path), read_study(written(sitk.ReadImage(str(path)), tmp_path / "b.nii")))


NAMES = {
    1: ("signed char", "int8_t", "uchar", "unsigned char"),
    2: ("short", "short int", "signed short int", "ushort", "unsigned short int", "uint16_t"),
    4: ("int", "signed int", "uint", "unsigned int", "uint32", "float"),
    8: ("longlong", "signed long long int", "unsigned long long", "uint64_t", "double"),
}


@pytest.mark.parametrize("kind, size", [(name, size) for size in NAMES for name in NAMES[size]])
def test_types_by_all_their_names_are_those_of_pynrrd(tmp_path: Path, kind: str, size: int) -> None:
    path = tmp_path / "a.nrrd"
    header = NRRD.format(type=f"type: {kind}\n", place="content: no place at all")
    path.write_bytes(header.encode() + (bytes(range(240)) * 4)[: 120 * size])
    expected, _ = nrrd.read(str(path))
    study = read_study(path).displayed()
    assert study.pixels.dtype == expected.dtype.newbyteorder("=")
    assert np.array_equal(study.pixels, expected.T, equal_nan=expected.dtype.kind == "f")


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "float32"])
def test_values_keep_their_type(tmp_path: Path, dtype: str) -> None:
    study = read_study(written(volume(dtype=dtype), tmp_path / "a.mha"))
    assert study.pixels.dtype == dtype and study.pixels.max() == 119


def test_the_content_decides(tmp_path: Path) -> None:
    for end in (".mha", ".nrrd"):
        path = written(volume("RAS"), tmp_path / f"a{end}")
        bare = path.rename(tmp_path / f"bare{end[1:]}")
        assert read_study(bare).pixels.shape == (4, 5, 6)


def test_a_radiograph_and_a_colour_image(tmp_path: Path) -> None:
    array = np.arange(5 * 7, dtype=np.uint16).reshape(5, 7)
    study = read_study(written(sitk.GetImageFromArray(array), tmp_path / "a.mha")).displayed()
    assert np.array_equal(study.pixels[0], array)
    colour = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    image = sitk.GetImageFromArray(colour, isVector=True)
    study = read_study(written(image, tmp_path / "c.mha")).displayed()
    assert study.units == "colour" and np.array_equal(study.pixels[0], colour)


def test_time_series(tmp_path: Path) -> None:
    both = sitk.JoinSeries([volume("RAS"), volume("RAS") + 1000])
    study = read_study(written(both, tmp_path / "a.nrrd"))
    assert study.pixels.shape == (8, 5, 6) and study.facts["volumes"] == 2
    assert np.array_equal(study.pixels[4:], study.pixels[:4] + 1000)


def test_what_is_refused(tmp_path: Path) -> None:
    vectors = sitk.Compose([volume(dtype="float32")] * 3)
    with pytest.raises(UnreadableFileError, match="3 values per voxel"):
        read_study(written(vectors, tmp_path / "v.nrrd"))
    complex_values = sitk.RealAndImaginaryToComplex(*[volume(dtype="float32")] * 2)
    with pytest.raises(UnreadableFileError, match="complex|2 values per voxel"):
        read_study(written(complex_values, tmp_path / "z.mha"))
    (tmp_path / "a.nrrd").write_text("NRRD0005\ntype: short\ndimension: 3\n\n")
    with pytest.raises(UnreadableFileError, match="lacks sizes"):
        read_study(tmp_path / "a.nrrd")
    for end in (".mha", ".nrrd"):
        path = written(volume(), tmp_path / f"cut{end}")
        path.write_bytes(path.read_bytes()[:-50])
        with pytest.raises(UnreadableFileError, match="Cannot read"):
            read_study(path)
        (tmp_path / f"junk{end}").write_bytes(b"no such thing" * 100)
        with pytest.raises(UnreadableFileError, match="Cannot read"):
            read_study(tmp_path / f"junk{end}")


@pytest.mark.parametrize(
    "end, key", [(".mhd", "ElementDataFile = "), (".nhdr", "data file: ")], ids=["mhd", "nhdr"]
)
def test_voxels_lie_beside_their_header(tmp_path: Path, end: str, key: str) -> None:
    folder = tmp_path / "a"
    folder.mkdir()
    path = written(volume(), folder / f"a{end}")
    text = path.read_text()
    name = next(line.removeprefix(key) for line in text.splitlines() if line.startswith(key))
    (tmp_path / "secret.raw").write_bytes((folder / name).read_bytes())
    absolute = str(tmp_path / "secret.raw")
    for elsewhere in ("../secret.raw", absolute):
        path.write_text(text.replace(name, elsewhere))
        with pytest.raises(UnreadableFileError, match="outside its folder"):
            read_study(path)
    for several in ("LIST", "a%03d.raw 1 4 1"):
        path.write_text(text.replace(name, several))
        with pytest.raises(UnreadableFileError, match="several files"):
            read_study(path)
    path.write_text(text)
    (folder / name).unlink()
    with pytest.raises(UnreadableFileError, match="without its data"):
        read_study(path)


def test_a_key_in_another_case_hides_nothing(tmp_path: Path) -> None:
    path = written(volume(), tmp_path / "a.mhd")
    text = path.read_text().replace("ElementDataFile = a.raw", "")
    path.write_text(f"{text}elementdatafile = LOCAL\nElementDataFile = /etc/hostname\n")
    with pytest.raises(UnreadableFileError, match="outside its folder"):
        read_study(path)


def test_images_with_masks_and_answers(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for part in ("images", "labels"):
        (data / part).mkdir(parents=True)
    for number in range(8):
        written(volume("oblique") + number, data / "images" / f"p{number}.nhdr", packed=True)
        mask = sitk.Cast(volume("oblique") > 40 + number, sitk.sitkUInt8)
        written(mask, data / "labels" / f"p{number}.nrrd")
    dataset = open_dataset(data)
    assert dataset.task == "segmentation" and len(dataset.samples) == 8
    items = find_items(data / "images")
    assert len(items) == 8
    study = items[0].read()
    assert isinstance(study, Study)
    mask = (study.pixels > 50).astype(np.uint8)
    write_nifti(tmp_path / "m.nii.gz", mask, study, items[0])
    found = sitk.ReadImage(str(tmp_path / "m.nii.gz"))
    original = volume("oblique")
    assert found.GetSize() == original.GetSize()
    np.testing.assert_allclose(found.GetDirection(), original.GetDirection(), atol=1e-5)
    np.testing.assert_allclose(found.GetOrigin(), original.GetOrigin(), atol=1e-4)
    assert np.array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(original) > 50)
    assert nibabel.load(tmp_path / "m.nii.gz").header.get_xyzt_units()[0] == "mm"


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    refused = 0
    for end in ENDS:
        intact = written(volume(), tmp_path / f"a{end}", packed=True).read_bytes()
        for number in range(100):
            data = bytearray(intact)
            for place in random.integers(0, len(data), 3):
                data[place] = random.integers(256)
            if number % 3 == 0:
                del data[random.integers(1, len(data)) :]
            path = tmp_path / f"b{end}"
            path.write_bytes(bytes(data))
            try:
                read_study(path)
            except UnreadableFileError:
                refused += 1
    assert 100 < refused < 400
