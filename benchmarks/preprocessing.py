"""Preprocessing on one thread: the native kernel against compositions of the best libraries.

    python -m benchmarks.preprocessing [--rounds 15]

Times are processor time, which other load on the machine does not lengthen by waiting. A 12-bit
image in uint16 (and one in uint8) goes through window, antialiased bicubic resize to
224 x 224 and normalisation into a float32 batch row. `difference` is the largest one to the
float64 reference, as a share of the normalised range. Compositions marked `other filter` do not
compute the same image (box filter, 8 bits, or no antialias); they are shown as the floor that speed
alone could reach. Bars: native at least 3 times the best composition of the same numbers, at least
10 times the naive one, difference at most 1e-4, one and many threads equal to the bit.

`end to end` is an uncompressed DICOM file of 2048 x 2048 in the page cache, as it becomes a row of
the batch. Decoding is what pydicom alone takes to stored values; at most half of the time may go to
all the rest (what the file means, keys, geometry, preprocessing).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import interleave, median_of_ratios, save, table
from dinorad_rt.preprocessing.native import describe
from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.presets import IMAGENET_MEAN, IMAGENET_STD
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.studies.study import Study, Window

SIZES = ((512, 512), (1024, 1024), (2048, 2048), (3000, 2500))
SIDE = 224
CENTRE, WIDTH = 2000.0, 3001.0
SAME = 1e-4
Run = Callable[[], np.ndarray]


def main() -> None:
    """Measure every size and print one row per composition."""
    import cv2
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    rows = []
    for bits in (16, 8):
        for shape in SIZES if bits == 16 else SIZES[:1]:
            rows += _measure(shape, bits, arguments.rounds)
    table(rows)
    bars = [_bars(rows, image) for image in dict.fromkeys(row["image"] for row in rows)]
    table(bars)
    whole = [_end_to_end(arguments.rounds)]
    table(whole)
    document = {
        "side": SIDE,
        "threads": 1,
        "clock": "processor time",
        "kernel": describe(),
        "rows": rows,
        "bars": bars,
    }
    save("preprocessing", document | {"end_to_end": whole})
    missed = [bar for bar in (*bars, *whole) if not bar["met"]]
    if missed:
        raise SystemExit(f"bar missed: {missed}")


def _measure(shape: tuple[int, int], bits: int, rounds: int) -> list[dict[str, Any]]:
    pixels = _image(shape, bits)
    runs = _candidates(pixels)
    truth = runs.pop("reference")()
    ceiling = truth.max() - truth.min()
    # As many images in a row as have the pixels of a 2048 x 2048 one: a turn then measures work,
    # not the caches that the candidate before has left behind.
    repeats = max(1, 2048 * 2048 // (shape[0] * shape[1]))

    def in_a_row(run: Run) -> Callable[[], None]:
        def turn() -> None:
            for _ in range(repeats):
                run()

        return turn

    turns = {name: in_a_row(run) for name, run in runs.items()}
    seconds = interleave(turns, rounds, clock=time.process_time)
    return [
        {
            "image": f"{shape[0]} x {shape[1]}, {bits} bit",
            "composition": name,
            "ms": 1e3 * statistics.median(seconds[name]) / repeats,
            "times_native": median_of_ratios(seconds[name], seconds["native"]),
            "difference": float(np.abs(run() - truth).max() / ceiling),
            "threads_equal": _same_with_threads(*_study_and_spec(pixels))
            if name == "native"
            else "",
        }
        for name, run in runs.items()
    ]


def _end_to_end(rounds: int) -> dict[str, Any]:
    """File to row of the batch, and the share of it that is not decoding."""
    import pydicom

    from benchmarks.readers import write_dicom
    from dinorad_rt.embeddings.decode import Decoder
    from dinorad_rt.studies.malloc import keep_freed_memory
    from dinorad_rt.studies.read import read_study

    keep_freed_memory()  # as `embed` and its workers do
    spec = PreprocessSpec(SIDE, IMAGENET_MEAN, IMAGENET_STD)
    decoder, preprocess = Decoder(spec), Preprocessor(spec)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "1.dcm"
        write_dicom(path, _image((2048, 2048), 16))
        study = read_study(path)
        runs = {
            "file to row": lambda: decoder.load(path),
            "decoding alone (pydicom)": lambda: pydicom.dcmread(path).pixel_array,
            "file to study": lambda: read_study(path),
            "preprocessing alone": lambda: preprocess(study),
        }
        seconds = interleave(runs, 3 * rounds, clock=time.process_time)
    whole, decoding = seconds["file to row"], seconds["decoding alone (pydicom)"]
    outside = 1.0 - median_of_ratios(decoding, whole)
    milliseconds = {f"{name}, ms": 1e3 * statistics.median(s) for name, s in seconds.items()}
    return {
        **milliseconds,
        "share outside decoding": outside,
        "share outside our reader": 1.0 - median_of_ratios(seconds["file to study"], whole),
        "met": outside <= 0.5,
    }


def _same_with_threads(study: Study, spec: PreprocessSpec) -> bool:
    one, many = (Preprocessor(spec, implementation="native", threads=n)(study) for n in (1, 7))
    return bool(np.array_equal(one, many))


def _bars(rows: list[dict[str, Any]], image: str) -> dict[str, Any]:
    mine = {row["composition"]: row for row in rows if row["image"] == image}
    same = {
        name: row["times_native"]
        for name, row in mine.items()
        if row["difference"] <= SAME and name not in ("native", "naive")
    }
    best = min(same, key=lambda name: same[name])
    naive, difference = mine["naive"]["times_native"], mine["native"]["difference"]
    return {
        "image": image,
        "best_same_numbers": best,
        "native_over_best": same[best],
        "native_over_naive": naive,
        "difference": difference,
        "threads_equal": mine["native"]["threads_equal"],
        "met": same[best] >= 3
        and naive >= 10
        and difference <= SAME
        and mine["native"]["threads_equal"],
    }


def _image(shape: tuple[int, int], bits: int) -> np.ndarray:
    """Smooth structure with noise, as an X-ray has."""
    rng = np.random.default_rng(0)
    y, x = (np.linspace(-1, 1, side) for side in shape)
    smooth = 2000 + 1500 * np.cos(4 * y)[:, None] * np.cos(3 * x)
    image = np.clip(smooth + rng.normal(0, 120, shape), 0, 4095)
    return image.astype(np.uint16) if bits == 16 else (image / 16).astype(np.uint8)


def _study_and_spec(pixels: np.ndarray) -> tuple[Study, PreprocessSpec]:
    eight = pixels.dtype == np.uint8
    study = Study(
        pixels[None],
        units="display" if eight else "stored",
        windows=() if eight else (Window(CENTRE, WIDTH),),
    )
    return study, PreprocessSpec(SIDE, IMAGENET_MEAN, IMAGENET_STD)


def _candidates(pixels: np.ndarray) -> dict[str, Run]:
    eight = pixels.dtype == np.uint8
    study, spec = _study_and_spec(pixels)
    low, high = (0.0, 255.0) if eight else (CENTRE - 0.5 - (WIDTH - 1) / 2, 0.0)
    high = high or low + WIDTH - 1
    row = np.empty((3, SIDE, SIDE), np.float32)
    native = Preprocessor(spec, implementation="native")
    reference = Preprocessor(spec, implementation="reference")

    def run_native() -> np.ndarray:
        native.into(study, row)
        return row

    return {
        "reference": lambda: reference(study),
        "native": run_native,
        **_compositions(pixels, low, high),
    }


def _compositions(pixels: np.ndarray, low: float, high: float) -> dict[str, Run]:
    import cv2
    import torch
    import torch.nn.functional as F
    from PIL import Image

    values = np.arange(np.iinfo(pixels.dtype).max + 1)
    lut = np.clip((values - low) / (high - low), 0, 1).astype(np.float32)
    mean, std = (np.array(v, np.float32).reshape(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    row = np.empty((3, SIDE, SIDE), np.float32)

    def finish(grey: np.ndarray) -> np.ndarray:
        np.subtract(np.clip(grey, 0, 1), mean, out=row)
        np.divide(row, std, out=row)
        return row

    def torch_resize(grey: np.ndarray) -> np.ndarray:
        tensor = torch.from_numpy(grey)[None, None]
        out = F.interpolate(tensor, size=(SIDE, SIDE), mode="bicubic", antialias=True)
        return finish(out[0, 0].numpy())

    def pil_resize(grey: np.ndarray) -> np.ndarray:
        image = Image.fromarray(grey).resize((SIDE, SIDE), Image.Resampling.BICUBIC)
        return finish(np.asarray(image))

    def cv_resize(grey: np.ndarray, how: int) -> np.ndarray:
        return finish(cv2.resize(grey, (SIDE, SIDE), interpolation=how))

    def eight_bits() -> np.ndarray:
        scale = 255 / (high - low)
        clipped = np.maximum(pixels, pixels.dtype.type(low))
        grey = cv2.convertScaleAbs(clipped, alpha=scale, beta=-low * scale)
        return finish(
            cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA) / np.float32(255)
        )

    def naive() -> np.ndarray:
        grey = np.clip((pixels.astype(np.float64) - low) / (high - low), 0, 1)
        rgb = Image.fromarray((grey * 255).round().astype(np.uint8)).convert("RGB")
        small = np.asarray(rgb.resize((SIDE, SIDE), Image.Resampling.BICUBIC))
        row[...] = (np.moveaxis(small / 255.0, 2, 0) - mean) / std
        return row

    return {
        "NumPy table + torch antialias": lambda: torch_resize(lut[pixels]),
        "OpenCV table + torch antialias": lambda: torch_resize(cv2.LUT(pixels, lut)),
        "OpenCV table + PIL float": lambda: pil_resize(cv2.LUT(pixels, lut)),
        "naive": naive,
        "other filter: OpenCV table + area": lambda: cv_resize(
            cv2.LUT(pixels, lut), cv2.INTER_AREA
        ),
        "other filter: OpenCV table + cubic": lambda: cv_resize(
            cv2.LUT(pixels, lut), cv2.INTER_CUBIC
        ),
        "other filter: OpenCV 8 bit + area": eight_bits,
    }


if __name__ == "__main__":
    main()
