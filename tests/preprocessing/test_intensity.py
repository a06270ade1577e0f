"""Windows and lookup tables against pydicom; the rules of `auto`; blank and broken slices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.pixels import apply_voi, apply_windowing

from dinorad_rt.errors import DataError
from dinorad_rt.preprocessing.intensity import GreyMap, grey_map, is_usable, rule_of
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.reference import ReferenceStatistics, grey
from dinorad_rt.studies.study import Study, Window

WINDOWS = [
    Window(2048, 4096, "LINEAR"),
    Window(2047.5, 301, "LINEAR"),
    Window(100, 1, "LINEAR"),
    Window(2048, 4096, "LINEAR_EXACT"),
    Window(900.25, 17.5, "LINEAR_EXACT"),
    Window(2048, 1000, "SIGMOID"),
]


def grey_of(study: Study, spec) -> np.ndarray:
    """Grey by the reference, before any resize."""
    return grey(*grey_map(study, study.pixels[0], spec, ReferenceStatistics()))


def tagged(window: Window) -> Dataset:
    dataset = Dataset()
    dataset.WindowCenter, dataset.WindowWidth = window.centre, window.width
    dataset.VOILUTFunction = window.function
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsStored, dataset.PixelRepresentation = 16, 0
    return dataset


@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("dtype", [np.uint16, np.float32])
@pytest.mark.parametrize("inverted", [False, True])
def test_windows_are_pydicoms(make_spec, window, dtype, inverted):
    stored = np.arange(4096).reshape(64, 64)
    study = Study(stored[None].astype(dtype), units="stored", windows=(window,), inverted=inverted)
    expected = apply_windowing(stored.astype(np.uint16), tagged(window)) / 65535.0
    expected = 1.0 - expected if inverted else expected
    np.testing.assert_allclose(grey_of(study, make_spec()), expected, atol=2e-6)


def test_window_applies_after_the_rescale(make_spec):
    stored = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    study = Study(stored[None], units="HU", rescale=(0.5, -1024.0), windows=(WINDOWS[3],))
    hounsfield = stored * 0.5 - 1024.0
    dataset = tagged(WINDOWS[3])
    dataset.RescaleSlope, dataset.RescaleIntercept = 1, 0
    expected = np.clip(hounsfield / 4096.0, 0, 1)
    np.testing.assert_allclose(grey_of(study, make_spec()), expected, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.int32, np.float32])
def test_voi_lut_is_pydicoms(make_spec, rng, dtype):
    table = np.sort(rng.integers(0, 4096, 300)).astype(np.uint16)
    table[-1] = 4095
    item = Dataset()
    item.LUTDescriptor, item.LUTData = [300, 50, 12], table.tolist()
    dataset = Dataset()
    dataset.VOILUTSequence = [item]
    dataset.BitsStored, dataset.PixelRepresentation = 16, 0
    dataset.PhotometricInterpretation = "MONOCHROME2"
    stored = np.arange(1024).reshape(32, 32)
    expected = apply_voi(stored.astype(np.uint16), dataset) / 4095.0
    study = Study(stored[None].astype(dtype), units="stored", voi_lut=(50, table))
    np.testing.assert_allclose(grey_of(study, make_spec()), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("study", "low", "high"),
    [
        (dict(units="HU"), -160.0, 240.0),
        (dict(units="HU", rescale=(2.0, -1000.0)), 420.0, 620.0),
        (dict(units="HU", windows=(Window(40, 80, "LINEAR_EXACT"),)), 0.0, 80.0),
        (dict(units="HU", windows=(Window(40, 0),)), -160.0, 240.0),
        (dict(units="HU", inverted=True), 240.0, -160.0),
        (dict(units="SUV"), 0.0, 10.0),
        (dict(units="display"), 0.0, 1000.0),
        (dict(units="stored"), 0.0, 1000.0),
        (dict(units="stored", rescale=(-1.0, 0.0)), 1000.0, 0.0),
        (dict(units="stored", padding=(900, 1000)), 0.0, 899.0),
    ],
)
def test_auto_by_units(make_spec, study, low, high):
    pixels = np.arange(1001, dtype=np.int16)[None, None]
    spec = make_spec(percentiles=(0.0, 100.0))
    _, mapping = grey_map(Study(pixels, **study), pixels[0], spec, ReferenceStatistics())
    assert (mapping.low, mapping.high) == pytest.approx((low, high))


def test_eight_bit_display_keeps_its_full_range(make_spec):
    pixels = np.full((1, 2, 2), 51, np.uint8)
    assert np.allclose(grey_of(Study(pixels, units="display"), make_spec()), 0.2)


def test_percentiles_of_a_nearly_empty_slice_fall_back_to_its_extrema(make_spec):
    pixels = np.zeros((1, 100, 100), np.uint16)
    pixels[0, 50, 50] = 300
    result = grey_of(Study(pixels, units="stored", modality="MR"), make_spec())
    assert result[50, 50] == 1.0 and result.sum() == 1.0


@pytest.mark.parametrize("intensity", ["auto", "percentile", "minmax"])
@pytest.mark.parametrize("value", [0, 7, np.nan, np.inf])
@pytest.mark.parametrize("inverted", [False, True])
def test_a_blank_slice_is_black(make_spec, implementation, intensity, value, inverted):
    pixels = np.full((1, 30, 20), value, np.float32)
    study = Study(pixels, units="stored", inverted=inverted)
    result = Preprocessor(make_spec(intensity=intensity), implementation=implementation)(study)
    assert not result.any()


@pytest.mark.parametrize("inverted", [False, True])
def test_nan_and_padding_are_black_even_when_inverted(make_spec, implementation, inverted):
    pixels = np.linspace(0, 1000, 1600, dtype=np.float32).reshape(1, 40, 40)
    pixels[0, 3, 4], pixels[0, 5, 6] = np.nan, -2000.0
    study = Study(pixels, units="stored", padding=(-2000.0, -2000.0), inverted=inverted)
    result = Preprocessor(make_spec(), implementation=implementation)(study)
    assert result[0, 3, 4] == 0.0 and result[0, 5, 6] == 0.0
    assert np.isfinite(result).all() and result.min() == 0.0 and result.max() == 1.0


def test_a_window_without_a_window_is_refused(make_spec):
    study = Study(np.zeros((1, 4, 4), np.uint16), units="stored")
    with pytest.raises(DataError, match="neither a window nor a VOI LUT"):
        Preprocessor(make_spec(intensity="window"))(study)


@pytest.mark.parametrize(
    "window", [Window(1, 0.5), Window(1, 0, "SIGMOID"), Window(np.nan, 5), Window(1, 5, "WAVY")]
)
def test_windows_that_the_standard_forbids_are_not_used(window):
    assert not is_usable(window)


def test_the_study_clips_and_stretches_after_the_resize(make_spec, implementation, rng):
    pixels = rng.integers(-2000, 3000, (1, 40, 40)).astype(np.int16)
    spec = make_spec(intensity="minmax", window=(-212.0, 1624.0), antialias=False)
    result = Preprocessor(spec, implementation=implementation)(Study(pixels, units="HU"))
    expected = (np.clip(pixels[0], -1024, 600) + 1024.0) / 1624.0
    np.testing.assert_allclose(result[0], expected, atol=1e-6)


def test_grey_map_of_equal_edges_is_black():
    assert not grey(np.arange(4).reshape(2, 2), GreyMap(3.0, 3.0)).any()


def test_mr_goes_by_percentiles_whatever_window_its_file_names(make_spec, rng):
    pixels = rng.integers(0, 120, (1, 50, 50)).astype(np.uint16)
    named = Study(pixels, units="stored", modality="MR", windows=(Window(470, 950),))
    assert rule_of(named, make_spec()) == "percentile"
    assert rule_of(named, make_spec(intensity="window")) == "window"
    assert rule_of(replace(named, modality="DX"), make_spec()) == "window"
