"""The shared table of cases (`engines/native/tests/cases.csv`): reference, CPU and CUDA alike.

The same file drives the C++ tests, where the pixels and the taps are made by code of their own.
After a change of cases: python tests/preprocessing/test_cases.py writes the reference's probes.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dinorad_rt.preprocessing import cuda, native
from dinorad_rt.preprocessing.geometry import Geometry, geometry
from dinorad_rt.preprocessing.intensity import GreyMap
from dinorad_rt.preprocessing.reference import channel, luma
from dinorad_rt.preprocessing.spec import PreprocessSpec

TABLE = Path(__file__).parents[2] / "engines" / "native" / "tests" / "cases.csv"
TYPES = {"u8": "uint8", "u16": "uint16", "i16": "int16", "i32": "int32", "f32": "float32"}
TYPES["f64"] = "float64"
PROBES = 6
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Case:
    """One line of the table, with what it stands for."""

    row: dict[str, str]

    def number(self, name: str) -> float:
        return float(self.row[name])

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.row["height"]), int(self.row["width"])

    def pixels(self) -> np.ndarray:
        """(height, width), or (height, width, 3) for luma, or every third value for strided."""
        height, width = self.shape
        layers = 1 if self.row["layout"] == "plain" else 3
        y, x, c = np.ogrid[:height, :width, :layers]
        span, start = int(self.row["span"]), int(self.row["start"])
        values = (y * 73 + x * 151 + c * 57 + (y * x) % 97 * 13) % span + start
        pixels = values.astype(TYPES[self.row["type"]])
        if pixels.dtype.kind == "f":
            pixels += 0.25
            pixels[0, 0] = np.nan
        if self.row["layout"] == "strided":
            return pixels[..., 1]
        return pixels if layers == 3 else pixels[..., 0]

    def plan(self) -> Geometry:
        aa = self.row["antialias"] == "1"
        spec = PreprocessSpec(
            image_size=int(self.row["side"]),
            mean=MEAN,
            std=STD,
            resize=self.row["resize"],  # type: ignore[arg-type]
            resize_to=int(self.row["resize_to"]),
            interpolation=self.row["interpolation"],  # type: ignore[arg-type]
            antialias=aa,
        )
        return geometry(*self.shape, spec)

    def mapping(self) -> GreyMap:
        low, high = self.number("low"), self.number("high")
        padding = None
        if self.row["pad_low"]:
            padding = self.number("pad_low"), self.number("pad_high")
        if self.row["curve"] == "line":
            return GreyMap(low, high, padding, stretch=self.row["stretch"] == "1")
        limits = np.iinfo(TYPES[self.row["type"]])
        stored = np.arange(limits.min, limits.max + 1, dtype=np.float64)
        table = (1.0 / (1.0 + np.exp(-4.0 * (stored - low) / high))).astype(np.float32)
        return GreyMap(0.0, 0.0, padding, table, int(limits.min), self.row["stretch"] == "1")

    def expected(self) -> np.ndarray:
        """(side, side) grey by the reference, float64."""
        pixels = self.pixels()
        flat = luma(pixels) if pixels.ndim == 3 else pixels
        return channel(flat, self.mapping(), self.plan())


def probes(grey: np.ndarray) -> list[float]:
    """Grey at places along both diagonals, as the C++ tests take it."""
    side = len(grey)
    places = [side * (2 * index + 1) // (2 * PROBES) for index in range(PROBES)]
    return [float(grey[at, at if index % 2 else side - 1 - at]) for index, at in enumerate(places)]


def cases() -> list[Case]:
    with TABLE.open(encoding="utf-8", newline="") as file:
        return [Case(row) for row in csv.DictReader(file)]


def by_name(case: Case) -> str:
    return case.row["name"]


@pytest.mark.parametrize("case", cases(), ids=by_name)
def test_the_reference_has_the_probes_of_the_table(case):
    wanted = [case.number(f"probe{index}") for index in range(PROBES)]
    np.testing.assert_allclose(probes(case.expected()), wanted, atol=1e-6)


@pytest.mark.skipif(not native.is_available(), reason="no native kernel here")
@pytest.mark.parametrize("kernel", native.kernels())
@pytest.mark.parametrize("case", cases(), ids=by_name)
def test_every_cpu_kernel_gives_the_references_numbers(case, kernel):
    side, expected = int(case.row["side"]), case.expected()
    out = np.full((3, side, side), np.nan, np.float32)
    native.preprocess(
        case.pixels(), case.mapping(), case.plan(), out, (MEAN, STD), kernel=kernel, threads=2
    )
    for index in range(3):
        wanted = (expected - MEAN[index]) / STD[index]
        assert np.abs(out[index] - wanted).max() <= 1e-4 / STD[index]


@pytest.mark.gpu
@pytest.mark.skipif(not cuda.is_available(), reason="no CUDA kernel, or no GPU here")
@pytest.mark.parametrize("number", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("case", cases(), ids=by_name)
def test_cuda_gives_the_references_numbers(case: Case, number: str) -> None:
    import torch

    side, expected = int(case.row["side"]), case.expected()
    batch: Any = torch.full((2, 3, side, side), 7.0, dtype=getattr(torch, number), device="cuda")
    cuda.preprocess(case.pixels(), case.mapping(), case.plan(), batch[1], (MEAN, STD))
    torch.cuda.synchronize()
    assert bool((batch[0] == 7.0).all())
    rounding = {"float32": 0.0, "float16": 2.0**-10, "bfloat16": 2.0**-7}[number]
    for index in range(3):
        wanted = (expected - MEAN[index]) / STD[index]
        found = batch[1, index].float().cpu().numpy()
        np.testing.assert_allclose(found, wanted, rtol=rounding, atol=1e-4 / STD[index])


def rewrite() -> None:
    """Put the reference's probes into the table."""
    rows = [
        case.row | {f"probe{i}": f"{value:.7f}" for i, value in enumerate(probes(case.expected()))}
        for case in cases()
    ]
    with TABLE.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    rewrite()
