"""The native kernel against the reference, on every instruction set of this processor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dinorad_rt.errors import DataError, MissingPackageError
from dinorad_rt.preprocessing import cuda, native
from dinorad_rt.preprocessing.geometry import geometry
from dinorad_rt.preprocessing.intensity import GreyMap
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.reference import ReferenceStatistics, channel
from dinorad_rt.studies.study import Study, Window

needs_kernel = pytest.mark.skipif(not native.is_available(), reason="no native kernel here")
pytestmark = needs_kernel

DTYPES = ["uint8", "uint16", "int16", "int32", "float32", "float64"]
SHAPES = [(40, 40), (37, 61), (300, 517), (1, 1), (2, 900), (2100, 3), (5000, 2)]
MAPS = [
    GreyMap(20.0, 220.0),
    GreyMap(220.0, 20.5, padding=(0.0, 12.0)),
    GreyMap(20.0, 220.0, stretch=True),
    GreyMap(7.0, 7.0),
]
GREY = ((0.0,), (1.0,))


def image(rng: np.random.Generator, dtype: str, shape: tuple[int, int]) -> np.ndarray:
    pixels = rng.integers(0, 250, shape).astype(dtype)
    if pixels.dtype.kind == "f":
        pixels.flat[0] = np.nan
    return pixels


@pytest.mark.parametrize("kernel", native.kernels())
@pytest.mark.parametrize("mapping", MAPS, ids=range(len(MAPS)))
@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_the_reference(make_spec, rng, kernel, mapping, dtype):
    for shape in SHAPES:
        for resize in ("squash", "pad", "shortest"):
            pixels = image(rng, dtype, shape)
            plan = geometry(*shape, make_spec(resize=resize, resize_to=48))
            out = np.full((1, 40, 40), np.nan, np.float32)
            native.preprocess(pixels, mapping, plan, out, GREY, kernel=kernel)
            np.testing.assert_allclose(out[0], channel(pixels, mapping, plan), atol=1e-5)


@pytest.mark.parametrize("kernel", native.kernels())
@pytest.mark.parametrize("stretch", [False, True])
def test_threads_change_no_bit(make_spec, rng, kernel, stretch):
    spec = make_spec(image_size=224)
    pixels = rng.integers(0, 4096, (700, 531)).astype(np.uint16)
    results = []
    for threads in (1, 2, 3, 7, 64):
        out = np.empty((3, 224, 224), np.float32)
        mapping = GreyMap(100.0, 3900.0, stretch=stretch)
        native.preprocess(
            pixels,
            mapping,
            geometry(700, 531, spec),
            out,
            (spec.mean, spec.std),
            threads=threads,
            kernel=kernel,
        )
        results.append(out)
    assert all(np.array_equal(results[0], other) for other in results[1:])


@pytest.mark.parametrize("window", [Window(30_000, 2000), Window(30_000, 9000, "SIGMOID")])
def test_sixteen_bit_windows_far_from_zero_stay_exact(make_spec, rng, window):
    pixels = rng.integers(28_000, 32_000, (1, 400, 300)).astype(np.uint16)
    study = Study(pixels, units="stored", windows=(window,), padding=(28_000, 28_010))
    ours = Preprocessor(make_spec(), implementation="native")(study)
    expected = Preprocessor(make_spec(), implementation="reference")(study)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


def test_float_pixels_far_from_zero_stay_exact(make_spec, rng):
    pixels = (1e6 + rng.random((1, 90, 80))).astype(np.float32)
    study = Study(pixels, units="stored")
    ours = Preprocessor(make_spec(), implementation="native")(study)
    expected = Preprocessor(make_spec(), implementation="reference")(study)
    np.testing.assert_allclose(ours, expected, atol=2e-6)


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
@pytest.mark.parametrize("kernel", native.kernels())
def test_narrow_outputs_round_as_torch_does(make_spec, rng, name, kernel):
    spec = make_spec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels, plan = rng.integers(0, 256, (70, 90)).astype(np.uint8), geometry(70, 90, spec)
    wide = np.empty((3, 40, 40), np.float32)
    narrow = np.empty((3, 40, 40), np.float16 if name == "float16" else np.uint16)
    for out in (wide, narrow):
        native.preprocess(
            pixels, GreyMap(0.0, 255.0), plan, out, (spec.mean, spec.std), kernel=kernel
        )
    expected = torch.from_numpy(wide).to(getattr(torch, name)).view(torch.int16).numpy()
    # One unit in the last place: the wide value was itself rounded once more or less (FMA).
    steps = np.abs(narrow.view(np.int16).astype(int) - expected.astype(int))
    assert steps.max() <= 1 and (steps == 0).mean() > 0.999


@pytest.mark.parametrize("layout", ["rows", "flipped", "columns", "big-endian", "read-only"])
def test_any_memory_layout(make_spec, rng, layout):
    pixels = rng.integers(0, 4096, (60, 50)).astype(np.uint16)
    views = {
        "rows": np.repeat(pixels, 2, axis=0)[::2],
        "flipped": np.ascontiguousarray(pixels[::-1, ::-1])[::-1, ::-1],
        "columns": np.asfortranarray(pixels),
        "big-endian": pixels.astype(">u2"),
        "read-only": np.frombuffer(pixels.tobytes(), np.uint16).reshape(60, 50),
    }
    make = Preprocessor(make_spec(), implementation="native")
    expected = make(Study(pixels[None], units="stored"))
    assert np.array_equal(make(Study(views[layout][None], units="stored")), expected)


@pytest.mark.parametrize("channels", ["grey", "rgb"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("intensity", ["auto", "minmax"])
def test_colour_equals_the_reference(make_spec, rng, channels, dtype, intensity):
    pixels = rng.integers(0, 256, (1, 77, 66, 3)).astype(dtype)
    study = Study(pixels, units="colour")
    spec = make_spec(channels=channels, intensity=intensity)
    ours = Preprocessor(spec, implementation="native")(study)
    expected = Preprocessor(spec, implementation="reference")(study)
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("padding", [None, (40.0, 90.0), (-1.0, 1e9)])
def test_statistics_are_numpys(rng, dtype, padding):
    for shape in [(1, 1), (3, 1), (64, 33)]:
        pixels = image(rng, dtype, shape)
        ours, expected = native.NativeStatistics(), ReferenceStatistics()
        assert ours.extrema(pixels, padding) == expected.extrema(pixels, padding)
        for percent in [(0.5, 99.5), (0.0, 100.0), (33.3, 50.0)]:
            assert ours.percentiles(pixels, percent, padding) == pytest.approx(
                expected.percentiles(pixels, percent, padding), abs=1e-9
            )


def test_taps_that_read_beyond_the_image_are_refused():
    first, count = np.full(16, 5, np.int32), np.full(16, 2, np.int32)
    with pytest.raises(ValueError, match="beyond its axis"):
        native.require().PackedAxis(first, count, np.ones((16, 16), np.float32), 16, 6, 0)


def test_many_threads_may_preprocess_at_once(make_spec, rng):
    from concurrent.futures import ThreadPoolExecutor

    make = Preprocessor(make_spec(), implementation="native")
    studies = [
        Study(rng.integers(0, 4096, (1, side, side)).astype(np.uint16), units="stored")
        for side in range(20, 220)
    ]
    expected = [make(study) for study in studies]
    with ThreadPoolExecutor(8) as pool:
        assert all(map(np.array_equal, pool.map(make, studies), expected))


def test_without_the_kernel_native_is_refused_and_auto_falls_back(make_spec, monkeypatch):
    monkeypatch.setattr(native, "_module", lambda: None)
    assert Preprocessor(make_spec()).implementation == "reference"
    assert "reference" in native.describe()
    with pytest.raises(MissingPackageError, match="without it"):
        Preprocessor(make_spec(), implementation="native")


def test_cuda_that_is_not_there_is_refused_with_the_way_out(make_spec, monkeypatch):
    monkeypatch.setattr(native, "_module", lambda: None)
    with pytest.raises(MissingPackageError, match="without it") as caught:
        Preprocessor(make_spec(), implementation="cuda")
    assert "DINORAD_CUDA=ON" in caught.value.fix


def test_cuda_does_not_write_into_arrays(make_spec, monkeypatch):
    monkeypatch.setattr(cuda, "require", lambda: None)
    make = Preprocessor(make_spec(), implementation="cuda")
    with pytest.raises(DataError, match="GPU memory"):
        make(Study(np.zeros((1, 4, 4), np.uint8)))


@pytest.mark.gpu
@pytest.mark.skipif(not cuda.is_available(), reason="no CUDA kernel, or no GPU here")
@pytest.mark.parametrize("channels", ["grey", "rgb"])
def test_a_row_of_the_engines_input_on_the_gpu(make_spec, rng, channels):
    spec = make_spec(channels=channels, intensity="minmax")
    batch = torch.zeros((4, 3, 40, 40), device="cuda")
    stream = torch.cuda.Stream()
    for index, shape in enumerate([(77, 66), (77, 66, 3), (300, 517), (40, 40)]):
        study = Study(rng.integers(0, 4096, (1, *shape)).astype(np.uint16))
        Preprocessor(spec, implementation="cuda").into(
            study, batch[index], stream=stream.cuda_stream
        )
        stream.synchronize()
        expected = Preprocessor(spec, implementation="reference")(study)
        np.testing.assert_allclose(batch[index].cpu().numpy(), expected, atol=1e-4)
