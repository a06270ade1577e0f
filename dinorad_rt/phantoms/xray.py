"""Chest X-rays: from the rays through a chest to the stored values of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dinorad_rt.phantoms.chest import Chest
from dinorad_rt.phantoms.chest_rays import Rays, trace
from dinorad_rt.phantoms.draws import Draws
from dinorad_rt.phantoms.glyphs import glyph
from dinorad_rt.phantoms.shapes import Grid
from dinorad_rt.phantoms.xray_findings import XRAY_KINDS, XrayFinding, fluid_and_mass

SOFT, LUNG, BONE = 0.0185, 0.0050, 0.036
"""Attenuation per mm at about 100 kV, scatter and hardening included."""

BITS = 12
TOP = 2**BITS - 1

XRAY_MASK = {1: "right lung", 2: "left lung", 3: "heart", 4: "nodule", 5: "opacity", 6: "effusion"}


@dataclass(frozen=True)
class XrayImage:
    """A finished image.

    Attributes:
        stored: (rows, columns) uint16, 12 bits used.
        mask: (rows, columns) uint8 after `XRAY_MASK`.
        inverted: True for MONOCHROME1.
        window: (centre, width) in stored values.
        pixel: mm.
        digital: DX rather than CR.
        view: PA or AP.
    """

    stored: np.ndarray
    mask: np.ndarray
    inverted: bool
    window: tuple[float, float]
    pixel: float
    digital: bool
    view: str


def expose(
    chest: Chest, findings: Sequence[XrayFinding], size: int, name: tuple[int, int], seed: int
) -> XrayImage:
    """Make one X-ray.

    Args:
        chest: the patient.
        findings: what is wrong in this study.
        size: rows and columns of the image.
        name: (patient, study) numbers; with the seed they decide everything drawn.
        seed: of the data set.
    """
    own = Draws(seed, "patient", name[0], "chest")
    study = Draws(seed, "xray", *name)
    digital = study.chance(0.5)
    grid = _posed(size, study)
    rays = trace(chest, grid, study.uniform(-5.0, 5.0))
    lungs, mask = _with_findings(chest, rays, grid, findings, (seed, *name))
    depth = _depth(rays, lungs, own)
    image = _developed(depth, rays, study)
    inverted = study.chance(0.4)
    _mark(image, study)
    low, gain = study.uniform(0.0, 0.15) * TOP, study.uniform(0.5, 0.85) * TOP
    stored = np.rint(low + gain * image).astype(np.uint16)
    window = (float(round(low + gain / 2)), float(round(gain * study.uniform(0.94, 1.0))))
    if inverted:
        stored, window = (TOP - stored).astype(np.uint16), (TOP - window[0], window[1])
    return XrayImage(
        stored, mask, inverted, window, grid.pixel, digital, study.pick(("PA", "PA", "PA", "AP"))
    )


def _posed(size: int, draws: Draws) -> Grid:
    """Pixels in the patient's millimetres: shifted and slightly scaled."""
    pixel = draws.uniform(337.0, 347.0) / size
    middle = (np.arange(size) - (size - 1) / 2.0) * pixel
    x, y = middle + draws.uniform(-4.0, 4.0), middle + draws.uniform(-7.0, -1.0)
    return Grid(x=x[None, :], y=y[:, None], z=np.zeros((1, 1)), pixel=pixel)


def _with_findings(
    chest: Chest,
    rays: Rays,
    grid: Grid,
    findings: Sequence[XrayFinding],
    name: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Air of both lungs with the findings taken away, mm, and the label map."""
    air = [rays.lungs[0].copy(), rays.lungs[1].copy()]
    mask = np.zeros(rays.body.shape, np.uint8)
    for side in range(2):
        mask[rays.lungs[side] > 12.0] = side + 1
    mask[(rays.heart > 8.0) & (mask == 0) | (rays.heart > 45.0)] = 3
    for number, finding in enumerate(findings):
        own = Draws(name[0], "finding", name[1], number)
        mass, where = fluid_and_mass(finding, chest, grid, air[finding.side], own)
        air[finding.side] -= mass
        mask[where] = 4 + XRAY_KINDS.index(finding.kind)
    return air[0] + air[1], mask


def _depth(rays: Rays, air: np.ndarray, draws: Draws) -> np.ndarray:
    """Optical depth of each ray."""
    vessels = np.minimum(rays.solid, air + 60.0)
    gas = np.clip(air - 0.5 * vessels, 0.0, 0.92 * rays.body)
    texture = 1.0 + 0.035 * draws.texture(air.shape, 60.0, 2)
    depth: np.ndarray = (
        SOFT * np.maximum(rays.body - gas - rays.airway, 0.0)
        + LUNG * gas * texture
        + SOFT * 0.35 * vessels * (air > 0)
        + SOFT * 0.25 * np.minimum(rays.solid, 30.0) * (air <= 0) * (rays.body > 0)
        + BONE * rays.bone * (rays.body > 1.0)
    )
    return depth


def _developed(depth: np.ndarray, rays: Rays, draws: Draws) -> np.ndarray:
    """Grey (0 to 1, bone bright) after scatter, noise, blur, collimation and a tone curve."""
    from scipy.ndimage import gaussian_filter, uniform_filter

    light = np.exp(-depth)
    wide = max(depth.shape[0] // 7, 3)
    scatter = uniform_filter(uniform_filter(light, wide), wide)
    light = light + draws.uniform(0.2, 0.27) * scatter + 0.002
    light = gaussian_filter(light, draws.uniform(0.4, 0.6), truncate=2.5)
    photons = 10.0 ** draws.uniform(3.9, 4.6)
    light = light + np.sqrt(light / photons) * draws.noise(depth.shape)
    tone = -np.log(np.maximum(light, 5e-4) * _shutter(depth.shape, draws))
    low = np.percentile(tone[rays.lungs[0] + rays.lungs[1] > 40.0], 20.0)
    high = np.percentile(tone[rays.body > 120.0], 96.0)
    span = max(high - low, 0.5)
    tone = (tone - low) / span * draws.uniform(0.68, 0.72) + draws.uniform(0.2, 0.23)
    detail = tone - uniform_filter(tone, max(depth.shape[0] // 18, 3))
    tone = np.clip(tone + draws.uniform(0.15, 0.35) * detail, -0.5, 1.6)
    curved: np.ndarray = 1.0 / (1.0 + np.exp(-draws.uniform(4.1, 4.5) * (tone - 0.5)))
    return np.clip((curved - 0.08) / 0.84, 0.0, 1.0)


def _shutter(shape: tuple[int, ...], draws: Draws) -> np.ndarray:
    """Light that the collimator lets through: a few rows or columns may be cut."""
    open_ = np.ones(shape)
    if draws.chance(0.15):
        cut = [draws.whole(0, max(shape[0] // 26, 1)) for _ in range(4)]
        open_[: cut[0]] = open_[shape[0] - cut[1] :] = 0.03
        open_[:, : cut[2]] = open_[:, shape[1] - cut[3] :] = 0.03
    return open_


def _mark(image: np.ndarray, draws: Draws) -> None:
    """A lead letter for the side: L at the patient's left, or R at the right."""
    left = draws.chance(0.6)
    letter = glyph("L" if left else "R", max(image.shape[0] // 100, 1))
    rows, columns = letter.shape
    top = draws.whole(image.shape[0] // 20, image.shape[0] // 12)
    inset = draws.whole(image.shape[1] // 20, image.shape[1] // 12)
    start = image.shape[1] - inset - columns if left else inset
    patch = image[top : top + rows, start : start + columns]
    patch += letter * (0.97 - patch)
