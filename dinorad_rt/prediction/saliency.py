"""What an answer rests on: integrated gradients of a bundle's own graph, drawn over the image.

Sundararajan et al., arXiv 1703.01365: gradients along the straight line from a black image to the
image, times their difference. The attributions of all pixels add up to the difference of the
logits (completeness), which is checked for every map. They show what moved this model's answer,
not where a finding is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dinorad_rt.embeddings.decode import Bad, Decoder
from dinorad_rt.errors import BundleError
from dinorad_rt.files import atomic_path
from dinorad_rt.prediction.bundle import LOGITS, Bundle
from dinorad_rt.prediction.inputs import Item

if TYPE_CHECKING:
    import torch

Module = Callable[["torch.Tensor"], "torch.Tensor"]
STEPS = 32
"""Points on the line; the error of the sum is told with each map."""
CHUNK = 8
_SIDE = 336
_POSITIVE, _NEGATIVE = (213, 94, 0), (0, 114, 178)  # Okabe and Ito: readable without red and green


@dataclass(frozen=True)
class Attribution:
    """Which pixels moved a logit.

    Attributes:
        values: (H, W) float32, summed over the channels; they add up to `change`.
        change: logit of the image minus that of the black image.
        error: of the sum of `values` against `change`, relative to it.
    """

    values: np.ndarray
    change: float
    error: float


def logits_module(bundle: Bundle) -> Module:
    """The bundle's program as a function from pixels to logits, with gradients.

    Raises:
        BundleError: the bundle holds no program, as INT8 ones.
        ExportError: the program is not what was exported.
    """
    from dinorad_rt.export.program import load_program

    if not bundle.graph.program_path.is_file():
        raise BundleError(
            f"The bundle {bundle.name} ({bundle.graph.precision}) holds no program that has "
            "gradients.",
            "Make one with --precision fp32 for saliency.",
        )
    module: Any = load_program(bundle.graph.program_path).module()
    place = list(bundle.graph.outputs).index(LOGITS)

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(pixels)[place]
        return found

    return logits


def integrated_gradients(
    module: Module, pixels: np.ndarray, black: np.ndarray, target: int, *, steps: int = STEPS
) -> Attribution:
    """Attribute one logit to the pixels of one image.

    Args:
        module: (rows, 3, H, W) → (rows, classes).
        pixels: (3, H, W) float32, normalised.
        black: (3, 1, 1) float32, what a black pixel is after normalising.
        target: index of the logit.
        steps: midpoints of equal parts of the line.
    """
    import torch

    image = torch.from_numpy(np.ascontiguousarray(pixels))
    start = torch.from_numpy(np.ascontiguousarray(black, np.float32)).expand_as(image)
    total = torch.zeros_like(image)
    places = (torch.arange(steps, dtype=torch.float32) + 0.5) / steps
    for part in places.split(CHUNK):
        points = start + part.view(-1, 1, 1, 1) * (image - start)
        points.requires_grad_(True)
        (gradient,) = torch.autograd.grad(module(points)[:, target].sum(), points)
        total += gradient.sum(dim=0)
    values = ((image - start) * total / steps).sum(dim=0)
    with torch.no_grad():
        ends = module(torch.stack([image, start.clone()]))[:, target]
    change = float(ends[0] - ends[1])
    error = abs(float(values.sum()) - change) / max(abs(change), 1e-6)
    return Attribution(values.numpy(), change, error)


def explain(
    bundle: Bundle, module: Module, item: Item, target: int, *, steps: int = STEPS
) -> tuple[np.ndarray, Attribution] | Bad:
    """Image and attribution of an item; of a volume, the slice with the highest target logit.

    Args:
        bundle: a classification.
        module: from `logits_module`.
        item: what to explain.
        target: index of the class.

    Returns:
        The network's input (3, H, W) and its attribution, or why the item cannot be read.
    """
    import torch

    study = item.read()
    if isinstance(study, Bad):
        return study
    decoder, shown = Decoder(bundle.preprocessing), study.displayed()
    best, chosen = -np.inf, None
    for index in range(shown.num_slices):
        image = decoder.image(shown.slice(index), item.files[0])
        if isinstance(image, Bad):
            return image
        if shown.num_slices == 1:
            chosen = image.pixels
            break
        with torch.no_grad():
            logit = float(module(torch.from_numpy(image.pixels[None]))[0, target])
        if logit > best:
            best, chosen = logit, image.pixels
    assert chosen is not None
    return chosen, integrated_gradients(module, chosen, black_of(bundle), target, steps=steps)


def black_of(bundle: Bundle) -> np.ndarray:
    """(3, 1, 1) float32: a black pixel after the bundle's normalisation."""
    spec = bundle.preprocessing
    value: np.ndarray = -np.asarray(spec.mean, np.float32) / np.asarray(spec.std, np.float32)
    return value.reshape(3, 1, 1)


def write_saliency(
    path: Path, bundle: Bundle, pixels: np.ndarray, found: Attribution, lines: Sequence[str]
) -> None:
    """A PNG: the network's view, the same with the attributions, and what it answered.

    Orange moved the logit up, blue down; attributions are meaned over patches of 14 pixels.

    Args:
        path: ending in .png.
        bundle: for the normalisation.
        pixels: (3, H, W) normalised.
        found: the attribution.
        lines: of the caption.
    """
    from PIL import Image, ImageDraw

    spec = bundle.preprocessing
    std, mean = (np.asarray(part).reshape(3, 1, 1) for part in (spec.std, spec.mean))
    grey = np.clip(pixels * std + mean, 0.0, 1.0).transpose(1, 2, 0) * 255
    heat = patch_means(found.values, 14)
    scale = float(np.abs(heat).max()) or 1.0
    share = np.abs(heat)[..., None] / scale
    colour = np.where(heat[..., None] > 0, _POSITIVE, _NEGATIVE)
    mixed = (1 - 0.75 * share) * grey + 0.75 * share * colour
    tiles = [
        Image.fromarray(tile.astype(np.uint8)).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        for tile in (grey, mixed)
    ]
    picture = Image.new("RGB", (2 * _SIDE, _SIDE + 18 * len(lines) + 8))
    for index, tile in enumerate(tiles):
        picture.paste(tile, (index * _SIDE, 0))
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(lines):
        draw.text((6, _SIDE + 4 + 18 * row), line, fill=(255, 255, 255))
    with atomic_path(path) as part:
        picture.save(part, format="PNG")


def patch_means(values: np.ndarray, patch: int) -> np.ndarray:
    """(H, W) → (H, W): the mean of each patch, spread over it; the last ones may be smaller."""
    height, width = values.shape
    rows, columns = np.arange(height) // patch, np.arange(width) // patch
    index = rows[:, None] * (columns[-1] + 1) + columns[None, :]
    sums = np.bincount(index.ravel(), weights=values.ravel().astype(np.float64))
    means: np.ndarray = (sums / np.bincount(index.ravel()))[index]
    return means
