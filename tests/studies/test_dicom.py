"""DICOM against the manifest of real odd files, against SimpleITK, and against the standard."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.errors import MissingPackageError, UnreadableFileError
from dinorad_rt.studies import dicom_pixels
from dinorad_rt.studies.dicom import read_stored
from dinorad_rt.studies.pseudonym import pseudonym
from dinorad_rt.studies.read import read_study
from dinorad_rt.studies.study import Window

RAMP = np.arange(48, dtype=np.uint16).reshape(6, 8)


def manifest(shared_data: Path) -> list[dict[str, str]]:
    with (shared_data / "dicom_odd" / "manifest.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def checksum(pixels: np.ndarray) -> str:
    return hashlib.sha256(pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()).hexdigest()


def test_every_odd_file_is_read_exactly_or_refused(shared_data: Path, cache: Path) -> None:
    decoded = refused = 0
    for row in manifest(shared_data):
        path = shared_data / "dicom_odd" / row["file"]
        if row["decoded"] == "1":
            assert checksum(read_stored(path)) == row["pixel_sha256"], row["file"]
            study = read_study(path)
            if row["PhotometricInterpretation"] != "PALETTE COLOR":
                assert checksum(study.pixels) == row["pixel_sha256"], row["file"]
            assert study.inverted == (row["PhotometricInterpretation"] == "MONOCHROME1")
            assert study.modality == (row["Modality"] or None)
            if row["RescaleSlope"]:
                assert study.rescale == (float(row["RescaleSlope"]), float(row["RescaleIntercept"]))
            decoded += 1
        else:
            with pytest.raises(UnreadableFileError) as caught:
                read_study(path)
            assert row["file"] in caught.value.problem and caught.value.fix
            refused += 1
    assert (decoded, refused) == (32, 18)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("DICOMDIR", "none of which"),
        ("rtstruct.dcm", "RT Structure Set Storage"),
        ("reportsi.dcm", "Basic Text SR"),
        ("MR_truncated.dcm", "8130 vs 8192 bytes"),
        ("badVR.dcm", "number of frames"),
        ("meta_missing_tsyntax.dcm", "without a transfer syntax"),
        ("no_meta.dcm", "no DICOM file"),
        ("not_dicom_README.txt", "no image format"),
    ],
)
def test_the_reason_is_told(shared_data: Path, cache: Path, name: str, reason: str) -> None:
    with pytest.raises(UnreadableFileError, match=reason):
        read_study(shared_data / "dicom_odd" / name)


def test_geometry_and_hu_are_those_of_simpleitk(shared_data: Path, cache: Path) -> None:
    sitk = pytest.importorskip("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    compared = 0
    for row in manifest(shared_data):
        if row["decoded"] != "1" or row["Modality"] not in ("CT", "MR", "CR", "NM"):
            continue
        path = shared_data / "dicom_odd" / row["file"]
        study = read_study(path)
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError:
            continue
        values = sitk.GetArrayFromImage(image)
        if study.inverted:  # SimpleITK inverts MONOCHROME1 itself
            values = 2 ** study.facts["bits_stored"] - 1 - values
        atol = 1.0 if study.facts["lossy"] else 1e-4  # two decoders of lossy data round apart
        np.testing.assert_allclose(study.values(), values.reshape(study.pixels.shape), atol=atol)
        if study.orientation is not None and study.num_slices == 1:
            directions = np.asarray(image.GetDirection()).reshape(3, 3)
            np.testing.assert_allclose(study.orientation[:, ::-1], directions, atol=1e-4)
            np.testing.assert_allclose(study.origin, image.GetOrigin(), atol=1e-4)
        if study.spacing is not None and row["Modality"] != "NM":
            np.testing.assert_allclose(study.spacing[:0:-1], image.GetSpacing()[:2], atol=1e-4)
        compared += 1
    assert compared >= 15


def test_palette_colours_are_those_of_pydicom(shared_data: Path, cache: Path) -> None:
    import pydicom

    path = shared_data / "dicom_odd" / "examples_palette.dcm"
    dataset = pydicom.dcmread(path)
    expected = pydicom.pixels.apply_color_lut(dataset.pixel_array, dataset)
    study = read_study(path)
    assert study.units == "colour" and study.pixels.dtype == np.uint8
    assert np.array_equal(study.pixels[0], expected >> (8 if expected.max() > 255 else 0))


def test_one_frame_is_that_frame(shared_data: Path, cache: Path) -> None:
    for name in ("emri_small.dcm", "emri_small_RLE.dcm", "rtdose.dcm"):
        whole = read_study(shared_data / "dicom_odd" / name)
        one = read_study(shared_data / "dicom_odd" / name, frame=7)
        assert one.num_slices == 1 and np.array_equal(one.pixels[0], whole.pixels[7])
        with pytest.raises(UnreadableFileError, match="was asked for"):
            read_study(shared_data / "dicom_odd" / name, frame=99)


def test_windows_padding_and_sign(write_dicom: Any) -> None:
    path = write_dicom(
        "a.dcm",
        RAMP.astype(np.int16),
        WindowCenter=[40, 40, -600],
        WindowWidth=[400, 400, 1500],
        PixelPaddingValue=-2000,
        PixelPaddingRangeLimit=-1900,
        RescaleSlope=2,
        RescaleIntercept=-1024,
    )
    study = read_study(path)
    assert study.windows == (Window(40, 400), Window(-600, 1500))
    assert study.padding == (-2000.0, -1900.0)
    assert study.rescale == (2.0, -1024.0) and study.units == "HU"
    assert study.values()[0, 0, 3] == 3 * 2 - 1024


def test_windows_that_the_standard_forbids_are_dropped(write_dicom: Any) -> None:
    path = write_dicom("a.dcm", RAMP, WindowCenter=[1, 2], WindowWidth=[0, 100])
    assert read_study(path).windows == (Window(2, 100),)
    path = write_dicom("b.dcm", RAMP, WindowCenter=3, WindowWidth=0.5, VOILUTFunction="SIGMOID")
    assert read_study(path).windows == (Window(3, 0.5, "SIGMOID"),)


def test_voi_lut_is_handed_on_as_pydicom_applies_it(write_dicom: Any) -> None:
    from pydicom.dataset import Dataset
    from pydicom.pixels import apply_voi_lut

    item = Dataset()
    item.add_new("LUTDescriptor", "US", [16, 10, 16])
    item.LUTData = np.linspace(0, 60000, 16).astype("<u2").tobytes()
    path = write_dicom("a.dcm", RAMP, VOILUTSequence=[item], Modality="DX")
    study = read_study(path)
    assert study.voi_lut is not None
    first, table = study.voi_lut
    found = table[np.clip(study.pixels[0].astype(int) - first, 0, len(table) - 1)]
    import pydicom

    assert np.array_equal(found, apply_voi_lut(RAMP, pydicom.dcmread(path)))


def test_a_modality_lut_table_is_applied_and_said(write_dicom: Any) -> None:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.add_new("LUTDescriptor", "US", [8, 4, 16])
    item.add_new("LUTData", "US", [value * value for value in range(8)])
    item.ModalityLUTType = "US"
    study = read_study(write_dicom("a.dcm", RAMP, ModalityLUTSequence=[item], Modality="CR"))
    expected = np.clip(RAMP.astype(int) - 4, 0, 7) ** 2
    assert np.array_equal(study.pixels[0], expected)
    assert study.rescale == (1.0, 0.0) and "modality LUT" in study.problems[0]


@pytest.mark.filterwarnings("ignore")  # highdicom on a series with invented attributes
def test_enhanced_multi_frame_written_by_highdicom(
    shared_data: Path, tmp_path: Path, cache: Path
) -> None:
    """The classic series and its conversion to enhanced MR are one volume in space."""
    highdicom = pytest.importorskip("highdicom")
    import pydicom
    from highdicom.legacy import LegacyConvertedEnhancedMRImage

    paths = sorted((shared_data / "mr_dicom_series").rglob("*.dcm"))
    LegacyConvertedEnhancedMRImage(
        legacy_datasets=[pydicom.dcmread(path) for path in paths],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
    ).save_as(tmp_path / "enhanced.dcm")
    enhanced, classic = read_study(tmp_path / "enhanced.dcm"), read_study(paths[0].parent)
    assert enhanced.num_slices == classic.num_slices == len(paths) and not enhanced.problems
    assert (enhanced.units, enhanced.windows) == (classic.units, classic.windows)
    there, here = classic.affine(), enhanced.affine()
    assert there is not None and here is not None
    for index in range(enhanced.num_slices):
        at = np.linalg.solve(there, here @ [index, 0, 0, 1])
        np.testing.assert_allclose(at[1:], [0, 0, 1], atol=1e-4)
        assert abs(at[0] - round(at[0])) < 1e-4
        assert np.array_equal(enhanced.pixels[index], classic.pixels[round(at[0])])


def test_windows_of_frames_go_with_them(write_dicom: Any) -> None:
    from pydicom.dataset import Dataset

    def group(centre: float) -> Dataset:
        item, voi = Dataset(), Dataset()
        voi.WindowCenter, voi.WindowWidth = centre, 100
        item.FrameVOILUTSequence = [voi]
        return item

    frames = np.stack([RAMP, RAMP])
    path = write_dicom(
        "a.dcm", frames, Modality="MR", PerFrameFunctionalGroupsSequence=[group(1), group(2)]
    )
    study = read_study(path)
    assert study.slice(0).windows == (Window(1, 100),)
    assert study.slice(1).windows == (Window(2, 100),) == read_study(path, frame=1).windows


def test_a_frame_is_read_without_the_others(write_dicom: Any) -> None:
    frames = np.arange(40 * 256 * 256, dtype=np.uint16).reshape(40, 256, 256)
    path = write_dicom("a.dcm", frames)
    import tracemalloc

    tracemalloc.start()
    assert np.array_equal(read_study(path, frame=31).pixels[0], frames[31])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < frames.nbytes / 4


def test_video_is_refused_by_name(write_dicom: Any) -> None:
    import pydicom
    from pydicom.encaps import encapsulate
    from pydicom.uid import MPEG2MPML

    path = write_dicom("a.dcm", RAMP.astype(np.uint8))
    dataset = pydicom.dcmread(path)
    dataset.PixelData = encapsulate([b"0123"])
    dataset.file_meta.TransferSyntaxUID = MPEG2MPML
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    with pytest.raises(UnreadableFileError, match="MPEG2") as caught:
        read_study(path)
    assert "ffmpeg" in caught.value.fix


@pytest.mark.parametrize("colour", [False, True], ids=["grey", "colour"])
def test_jpeg_baseline_is_that_of_pillow(write_dicom: Any, colour: bool) -> None:
    import io

    import pydicom
    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    y, x = np.mgrid[:64, :48].astype(np.uint8)
    grey = y * 3 + x
    image = Image.fromarray(np.stack([grey, grey[::-1], x * 5], axis=-1) if colour else grey)
    packed = io.BytesIO()
    image.save(packed, "JPEG", quality=95, subsampling=0)
    path = write_dicom("a.dcm", grey, Modality="XC")
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    if colour:
        dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
        dataset.PhotometricInterpretation = "YBR_FULL_422"
    dataset.PixelData = encapsulate([packed.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset.save_as(path)
    expected = np.asarray(Image.open(packed)).astype(int)
    found = read_study(path)
    assert found.is_colour == colour
    assert np.abs(found.pixels[0].astype(int) - expected).max() <= 3  # two inverse transforms


@pytest.mark.parametrize("name", ["HSV", "CMYK", "YBR_PARTIAL_422", "NONSENSE"])
def test_colours_that_would_be_taken_for_others_are_refused(write_dicom: Any, name: str) -> None:
    path = write_dicom("a.dcm", RAMP, PhotometricInterpretation=name)
    with pytest.raises(UnreadableFileError, match=name) as caught:
        read_study(path)
    assert "RGB" in caught.value.fix


def test_masks_and_doses_are_not_taken_for_images(shared_data: Path, cache: Path) -> None:
    for name, said in (("liver_1frame.dcm", "labels"), ("rtdose.dcm", "doses")):
        study = read_study(shared_data / "dicom_odd" / name)
        assert any(said in problem for problem in study.problems)


def test_identifiers_become_keys(write_dicom: Any) -> None:
    study = read_study(write_dicom("Doe^Jane.dcm", RAMP, SeriesInstanceUID="1.2.3"))
    assert study.patient == pseudonym("patient", "MRN-4711")
    assert study.series == pseudonym("series", "1.2.3") and study.study is None
    assert "4711" not in repr(study) and "Jane" not in repr(study)


def test_burned_in_text_is_warned_about(write_dicom: Any) -> None:
    study = read_study(write_dicom("a.dcm", RAMP, BurnedInAnnotation="YES", Modality="US"))
    assert any("burned-in" in problem for problem in study.problems)


def test_a_mosaic_is_told(write_dicom: Any) -> None:
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    study = read_study(write_dicom("a.dcm", RAMP, Modality="MR", ImageType=kind))
    assert any("all slices of a volume as tiles" in problem for problem in study.problems)


def test_units_by_modality(write_dicom: Any) -> None:
    eight = RAMP.astype(np.uint8)
    assert read_study(write_dicom("a.dcm", eight, Modality="OT")).units == "display"
    assert read_study(write_dicom("b.dcm", RAMP, Modality="MR")).units == "stored"
    plain = read_study(write_dicom("c.dcm", RAMP, Modality="CT"))
    assert plain.units == "stored" and "not taken for HU" in plain.problems[0]
    pet = read_study(write_dicom("d.dcm", RAMP, Modality="PT", Units="BQML"))
    assert pet.units == "stored" and "BQML" in pet.problems[0]
    assert read_study(write_dicom("e.dcm", RAMP, Modality="PT", Units="GML")).units == "SUV"


def test_a_missing_decoder_is_named_with_its_command(
    shared_data: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pydicom.pixels
    from pydicom.pixels import get_decoder

    def nothing(*_: Any, **__: Any) -> None:
        raise RuntimeError("unable to decode")

    class NoDecoder:
        is_available = False

    monkeypatch.setattr(pydicom.pixels, "pixel_array", nothing)
    monkeypatch.setattr(pydicom.pixels, "get_decoder", lambda _: NoDecoder)
    with pytest.raises(MissingPackageError) as caught:
        read_study(shared_data / "dicom_odd" / "HTJ2K_08_RGB.dcm")
    assert "High-Throughput JPEG 2000" in caught.value.problem
    assert "pip install 'pylibjpeg[openjpeg]'" in caught.value.fix
    assert all(get_decoder(uid) for uid in dicom_pixels._PACKAGES)


def test_a_declared_size_beyond_the_bound_is_refused(
    write_dicom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_dicom("a.dcm", RAMP)
    monkeypatch.setattr(dicom_pixels, "MAX_BYTES", 90)
    with pytest.raises(UnreadableFileError, match="GiB"):
        read_study(path)


def test_enhanced_frames_bring_their_own_rescale_and_place(write_dicom: Any) -> None:
    from pydicom.dataset import Dataset

    def group(slope: float, height: float) -> Dataset:
        frame, value, plane = Dataset(), Dataset(), Dataset()
        value.RescaleSlope, value.RescaleIntercept, value.RescaleType = slope, 1, "US"
        plane.ImagePositionPatient = [0, 0, height]
        frame.PixelValueTransformationSequence = [value]
        frame.PlanePositionSequence = [plane]
        return frame

    shared, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [2, 3], 4
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence = [measures]
    shared.PlaneOrientationSequence = [orientation]
    frames = np.stack([RAMP, RAMP + 1, RAMP + 2])
    path = write_dicom(
        "a.dcm",
        frames,
        Modality="MR",
        SharedFunctionalGroupsSequence=[shared],
        PerFrameFunctionalGroupsSequence=[group(1 + i, 10.0 - 2.5 * i) for i in range(3)],
    )
    study = read_study(path)
    expected = frames * np.array([1, 2, 3])[:, None, None] + 1
    assert np.array_equal(study.pixels, expected) and study.rescale == (1.0, 0.0)
    assert study.spacing == (2.5, 2.0, 3.0) and study.orientation is not None
    assert study.orientation[:, 0].tolist() == [0, 0, -1]  # stored order runs downwards
    assert study.slice(2).origin == (0.0, 0.0, 5.0)


def _enhanced(
    write_dicom: Any, frames: list[dict[str, Any]], pointers: tuple[str, ...] = ()
) -> Path:
    """A multi-frame file; each frame with height, orientation and values of its dimensions."""
    from pydicom.dataset import Dataset
    from pydicom.tag import Tag

    groups = []
    for facts in frames:
        frame, plane, turn, content = Dataset(), Dataset(), Dataset(), Dataset()
        plane.ImagePositionPatient = [0, 0, facts["height"]]
        turn.ImageOrientationPatient = facts.get("turn", [1, 0, 0, 0, 1, 0])
        content.DimensionIndexValues = list(facts.get("index", ()))
        frame.PlanePositionSequence, frame.PlaneOrientationSequence = [plane], [turn]
        frame.FrameContentSequence = [content]
        groups.append(frame)
    dimensions = []
    for name in pointers:
        dimension = Dataset()
        dimension.DimensionIndexPointer = Tag(name)
        dimensions.append(dimension)
    return write_dicom(  # type: ignore[no-any-return]
        "a.dcm",
        np.stack([RAMP + i for i in range(len(frames))]),
        Modality="MR",
        DimensionIndexSequence=dimensions,
        PerFrameFunctionalGroupsSequence=groups,
    )


def test_frames_out_of_order_name_the_dimension_and_the_first_that_is(write_dicom: Any) -> None:
    heights = [0.0, 2.0, 6.0, 4.0, 8.0]
    frames: list[dict[str, Any]] = [
        {"height": height, "index": (1, int(height / 2) + 1)} for height in heights
    ]
    pointers = ("StackID", "InStackPositionNumber")
    study = read_study(_enhanced(write_dicom, frames, pointers))
    assert np.array_equal(study.pixels[3], RAMP + 3)  # numbers of frames stay the file's
    (problem,) = study.problems
    assert "not stored in the order of their positions" in problem
    assert "(dimension InStackPositionNumber)" in problem
    assert "frame 4 lies on the wrong side of frame 3" in problem and "dcm2niix" in problem


def test_several_frames_of_a_position_name_what_they_differ_in(write_dicom: Any) -> None:
    frames: list[dict[str, Any]] = [
        {"height": 3.0 * place, "index": (1, place + 1, time + 1)}
        for place in range(2)
        for time in range(3)
    ]
    pointers = ("StackID", "InStackPositionNumber", "TemporalPositionIndex")
    (problem,) = read_study(_enhanced(write_dicom, frames, pointers)).problems
    assert "3 frames lie at each of 2 positions (dimension TemporalPositionIndex)" in problem
    (problem,) = read_study(_enhanced(write_dicom, frames[:5])).problems
    assert "up to 3 frames lie at each of 2 positions: no one stack" in problem


def test_frames_of_several_orientations_are_said(write_dicom: Any) -> None:
    turned = [1, 0, 0, 0, 0, -1]
    frames: list[dict[str, Any]] = [{"height": 0.0}, {"height": 2.0}, {"height": 4.0}]
    frames[2]["turn"] = turned
    (problem,) = read_study(_enhanced(write_dicom, frames)).problems
    assert "the frames have 2 orientations" in problem and "each orientation" in problem
