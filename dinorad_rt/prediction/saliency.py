"""What an answer rests on, drawn over the image. It shows what moved this model's answer, not where
a finding is.

occlusion   (Zeiler and Fergus, arXiv 1311.2901) a square is hidden at each place in turn, and the
            engine that answers is asked again: how much do the log-odds fall?
gradients   (integrated gradients; Sundararajan et al., arXiv 1703.01365) gradients of the graph's
            program along the line from a black image to the image, times their difference. The
            attributions add up to the change of the logit, which is checked for every map.
attention   (rollout; Abnar and Zuidema, arXiv 2005.00928) where the class token of a transformer
            looks, whatever the class: see `attention.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dinorad_rt.embeddings.decode import Bad, Decoder
from dinorad_rt.errors import BundleError
from dinorad_rt.files import atomic_path
from dinorad_rt.prediction.bundle import LOGITS, Bundle
from dinorad_rt.prediction.inputs import Item
from dinorad_rt.preprocessing.reference import picture_of
from dinorad_rt.reports.fonts import MISSING, drawn, picture_font
from dinorad_rt.reports.viewing import wrapped_words

if TYPE_CHECKING:
    import torch

    from dinorad_rt.preprocessing.spec import PreprocessSpec

Method = Literal["occlusion", "gradients", "attention"]
IN_PYTORCH: tuple[Method, ...] = ("gradients", "attention")
"""Methods that look into the program; the others ask the engine."""
READING: dict[Method, str] = {
    "occlusion": "Orange speaks for it, blue against it.",
    "gradients": "Orange speaks for it, blue against it.",
    "attention": "Orange: where attention gathers, the same for every class.",
}
Infer = Callable[[np.ndarray], np.ndarray]
"""(rows, 3, H, W) float32 → (rows, classes) logits."""
Module = Callable[["torch.Tensor"], "torch.Tensor"]
GRID, WINDOW = 14, 3
"""Places along each side where the square is put, and its side in steps between them."""
STEPS = 64
"""Points on the line; the error of the sum is told with each map."""
CHUNK = 8
_SIDE = 336
POSITIVE, NEGATIVE = (213, 94, 0), (0, 114, 178)
"""Colours for and against a class, of Okabe and Ito: readable without red and green."""


@dataclass(frozen=True)
class Attribution:
    """Which pixels moved an answer.

    Attributes:
        values: (H, W) float32; above 0 where the image speaks for the class.
        note: how to read them, one sentence.
        error: of gradients' sum against the change of the logit, relative to it; 0 for occlusion.
    """

    values: np.ndarray
    note: str
    error: float = 0.0


def logits_module(bundle: Bundle) -> Module:
    """The bundle's program as a function from pixels to logits, with gradients.

    Raises:
        BundleError: the bundle holds no program for PyTorch, as INT8 ones.
        ExportError: the program is not what was exported.
    """
    from dinorad_rt.export.program import load_program

    if not bundle.graph.program_path.is_file():
        raise BundleError(
            f"The bundle {bundle.name} ({bundle.graph.precision}) holds no program for PyTorch, "
            "which gradients and attention are read from.",
            "Make one with --precision fp32 for saliency.",
        )
    module: Any = load_program(bundle.graph.program_path).module()
    place = list(bundle.graph.outputs).index(LOGITS)

    def logits(pixels: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = module(pixels)[place]
        return found

    return logits


def occlusion(infer: Infer, pixels: np.ndarray, target: int, *, sigmoid: bool) -> Attribution:
    """Hide a square at each place of a grid and measure how far the log-odds fall.

    A pixel gets the mean over the squares that hid it. Hidden pixels get the image's mean.

    Args:
        infer: of the engine.
        pixels: (3, H, W) float32, normalised.
        target: index of the class.
        sigmoid: logits stand for labels of their own, else for one class of several.
    """
    height, width = pixels.shape[1:]
    spans = [
        (rows, columns)
        for rows in _spans(height, GRID, WINDOW)
        for columns in _spans(width, GRID, WINDOW)
    ]
    hidden = np.repeat(pixels[None], len(spans) + 1, axis=0)
    mean = pixels.mean(axis=(1, 2), keepdims=True)
    for image, (rows, columns) in zip(hidden[1:], spans, strict=True):
        image[:, rows, columns] = mean
    odds = log_odds(infer(hidden), target, sigmoid=sigmoid)
    sums, counts = np.zeros((height, width)), np.zeros((height, width))
    for fall, (rows, columns) in zip(odds[0] - odds[1:], spans, strict=True):
        sums[rows, columns] += fall
        counts[rows, columns] += 1
    top = float(np.abs(odds[0] - odds[1:]).max())
    note = (
        f"Hiding one place moves the log-odds ({odds[0]:.2f}, uncalibrated) by at most {top:.2f}."
    )
    return Attribution((sums / np.maximum(counts, 1)).astype(np.float32), note)


def log_odds(logits: np.ndarray, target: int, *, sigmoid: bool) -> np.ndarray:
    """(rows, classes) logits → (rows,) log p / (1 - p) of a class."""
    from scipy.special import logsumexp

    own: np.ndarray = logits[:, target].astype(np.float64)
    if sigmoid or logits.shape[1] == 1:
        return own
    odds: np.ndarray = own - logsumexp(np.delete(logits.astype(np.float64), target, 1), axis=1)
    return odds


def _spans(size: int, grid: int, window: int) -> list[slice]:
    """Windows along one axis, centred on the cells of a grid and cut at the rim."""
    edges = np.linspace(0, size, grid + 1).round().astype(int)
    reach = window // 2
    return [
        slice(int(edges[max(i - reach, 0)]), int(edges[min(i + reach + 1, grid)]))
        for i in range(grid)
    ]


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
    note = f"Attributions miss the change of the logit ({change:.2f}) by {error:.1%}."
    return Attribution(values.numpy(), note, error)


def attention(module: Module, pixels: np.ndarray) -> Attribution:
    """Where the class token looks, through all blocks, beyond an even share; 0 below one.

    Args:
        module: (rows, 3, H, W) → (rows, classes), of a vision transformer.
        pixels: (3, H, W) float32, normalised.

    Raises:
        DataError: the model has no attention over the whole image, or no class token.
    """
    from dinorad_rt.prediction.attention import attention_map, attentions

    height, width = pixels.shape[1:]
    shares = attention_map(attentions(module, pixels), (height, width))
    note = (
        f"The class token takes {shares.min():.1f} to {shares.max():.1f} times an even share from "
        "a patch; coloured is what is above 1."
    )
    return Attribution(np.maximum(shares - 1, 0).astype(np.float32), note)


@dataclass(frozen=True)
class Asked:
    """The model that is asked.

    Attributes:
        infer: of its engine.
        module: its program in PyTorch; needed by the methods of `IN_PYTORCH`.
        black: (3, 1, 1) float32, what a black pixel is after normalising.
        sigmoid: logits stand for labels of their own, else for one class of several.
    """

    infer: Infer
    module: Module | None
    black: np.ndarray
    sigmoid: bool


def attribute(method: Method, asked: Asked, pixels: np.ndarray, target: int) -> Attribution:
    """Ask for what an answer rests on.

    Args:
        method: one of `Method`.
        asked: the model.
        pixels: (3, H, W) float32, normalised.
        target: index of the class.

    Raises:
        DataError: the model has no attention, where that was asked for.
    """
    if method == "occlusion":
        return occlusion(asked.infer, pixels, target, sigmoid=asked.sigmoid)
    if asked.module is None:
        raise AssertionError(f"{method} looks into the program")
    if method == "attention":
        return attention(asked.module, pixels)
    return integrated_gradients(asked.module, pixels, asked.black, target)


def chosen_slice(bundle: Bundle, infer: Infer, item: Item, target: int) -> np.ndarray | Bad:
    """The network's input (3, H, W) of an item; of a volume, the slice with the highest logit.

    Args:
        bundle: a classification.
        infer: of its engine.
        item: what to read.
        target: index of the class.
    """
    study = item.read()
    if isinstance(study, Bad):
        return study
    decoder, shown = Decoder(bundle.preprocessing), study.displayed()
    best: tuple[float, np.ndarray] | None = None
    for index in range(shown.num_slices):
        image = decoder.image(shown.slice(index), item.files[0])
        if isinstance(image, Bad):
            return image
        if shown.num_slices == 1:
            return image.pixels
        odds = log_odds(infer(image.pixels[None]), target, sigmoid=bundle.task == "multilabel")
        if best is None or odds[0] > best[0]:
            best = float(odds[0]), image.pixels
    assert best is not None
    return best[1]


def black_of(spec: PreprocessSpec) -> np.ndarray:
    """(3, 1, 1) float32: a black pixel after normalisation."""
    value: np.ndarray = -np.asarray(spec.mean, np.float32) / np.asarray(spec.std, np.float32)
    return value.reshape(3, 1, 1)


def write_saliency(
    path: Path, bundle: Bundle, pixels: np.ndarray, found: Attribution, lines: Sequence[str]
) -> None:
    """A PNG: the network's view, the same with the attributions, and what it answered.

    Orange speaks for the class, blue against it. Gradients are meaned over patches.

    Args:
        path: ending in .png.
        bundle: for the normalisation.
        pixels: (3, H, W) normalised.
        found: the attribution.
        lines: of the caption.
    """
    from PIL import Image, ImageDraw

    tiles = [
        Image.fromarray(tile).resize((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        for tile in saliency_tiles(bundle.preprocessing, pixels, found)
    ]
    said = list(map(drawn, lines))
    said += [MISSING] if said != list(lines) else []
    words = [part for line in said for part in wrapped_words(line, 2 * _SIDE - 12)]
    picture = Image.new("RGB", (2 * _SIDE, _SIDE + 18 * len(words) + 8))
    for index, tile in enumerate(tiles):
        picture.paste(tile, (index * _SIDE, 0))
    draw = ImageDraw.Draw(picture)
    for row, line in enumerate(words):
        at = (6, _SIDE + 4 + 18 * row)
        draw.text(at, line, fill=(255, 255, 255), font=picture_font(line))
    with atomic_path(path) as part:
        picture.save(part, format="PNG")


def saliency_tiles(
    spec: PreprocessSpec, pixels: np.ndarray, found: Attribution
) -> tuple[np.ndarray, np.ndarray]:
    """The network's view, and the same under the attributions.

    Args:
        spec: for the normalisation.
        pixels: (3, H, W) normalised.
        found: the attribution; meaned over patches here.

    Returns:
        Two (H, W, 3) uint8.
    """
    grey = picture_of(pixels, spec) * 255
    heat = patch_means(found.values, max(1, found.values.shape[0] // GRID))
    scale = float(np.abs(heat).max()) or 1.0
    share = np.abs(heat)[..., None] / scale
    colour = np.where(heat[..., None] > 0, POSITIVE, NEGATIVE)
    mixed = (1 - 0.75 * share) * grey + 0.75 * share * colour
    return grey.astype(np.uint8), mixed.astype(np.uint8)


def patch_means(values: np.ndarray, patch: int) -> np.ndarray:
    """(H, W) → (H, W): the mean of each patch, spread over it; the last ones may be smaller."""
    height, width = values.shape
    rows, columns = np.arange(height) // patch, np.arange(width) // patch
    index = rows[:, None] * (columns[-1] + 1) + columns[None, :]
    sums = np.bincount(index.ravel(), weights=values.ravel().astype(np.float64))
    means: np.ndarray = (sums / np.bincount(index.ravel()))[index]
    return means
