"""Colours of classes: told apart by people with each kind of colour vision, and the same anywhere.

CIE 1976 distances, by Pillow's colour management; 2.3 is what people just notice. Vision without
red or green is simulated as Machado, Oliveira and Fernandes (2009) do.
"""

from __future__ import annotations

import io
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageCms

from dinorad_rt.reports.outlines import outlined_png
from dinorad_rt.reports.palette import COLOURS, rgb_of, style_of

VISION = {
    "full": np.eye(3),
    "protanopia": np.array(
        [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ]
    ),
    "deuteranopia": np.array(
        [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.011820, 0.042940, 0.968881],
        ]
    ),
}


def seen(vision: str) -> np.ndarray:
    """(colours, 3) CIELAB of the palette."""
    share = np.array([rgb_of(index) for index in range(1, len(COLOURS) + 1)]) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ VISION[vision].T, 0, 1)
    back = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    pixels = Image.fromarray(np.rint(255 * back).astype(np.uint8)[None], "RGB")
    profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
    change = ImageCms.buildTransform(*profiles, "RGB", "LAB")
    lab = np.asarray(ImageCms.applyTransform(pixels, change))[0].astype(np.float64)
    a_and_b = lab[:, 1:].astype(np.uint8).astype(np.int8)
    return np.concatenate([lab[:, :1] * 100 / 255, a_and_b], axis=1)


@pytest.mark.parametrize(
    ("vision", "neighbours", "dozen", "all_pairs"),
    [("full", 40, 18, 12), ("protanopia", 20, 18, 8), ("deuteranopia", 16, 15, 8)],
)
def test_classes_are_told_apart(
    vision: str, neighbours: float, dozen: float, all_pairs: float
) -> None:
    lab = seen(vision)
    apart = np.linalg.norm(lab[:, None] - lab[None], axis=2) + 1000 * np.eye(len(lab))
    assert len(set(COLOURS)) == len(COLOURS) >= 20
    assert min(apart[at, (at + 1) % len(lab)] for at in range(len(lab))) > neighbours
    assert apart[:12, :12].min() > dozen
    assert apart.min() > all_pairs


def test_no_two_of_many_classes_are_drawn_alike_and_neighbours_differ_in_colour() -> None:
    styles = [style_of(index) for index in range(1, 73)]
    assert len(set(styles)) == len(styles)
    assert all(one[0] != other[0] for one, other in pairwise(styles))
    assert [line for _, line in styles[:18:6]] == ["solid", "dashed", "dotted"]


def test_outlines_on_grey_have_the_colours_of_their_classes() -> None:
    mask = np.zeros((40, 40), np.uint8)
    mask[5:35, 5:15], mask[5:35, 20:30] = 7, 24
    png = outlined_png(np.full((40, 40, 3), 0.5), mask)
    picture = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).reshape(-1, 3)
    found = {tuple(map(int, pixel)) for pixel in picture if np.ptp(pixel.astype(int)) > 0}
    assert found == {rgb_of(7), rgb_of(24)}
    assert rgb_of(25) == rgb_of(1)
