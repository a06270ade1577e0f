"""`segment_study`: any study → class indices on its own grid.

study ─► as displayed ─► slices on the network's grid ─► scores ─► back to the slices ─► labels
                      └► one grey volume ─► patches ─► scores ─► back to the volume ─► labels
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from dinorad_rt.preprocessing.pipeline import Preprocessor
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation.grid import in_plane, scores_to_study, undisplayed
from dinorad_rt.training.segmentation.windows import sliding_logits

if TYPE_CHECKING:
    from torch import nn

    from dinorad_rt.runners.base import AbstractRunner
    from dinorad_rt.studies.study import Study

ROWS = 8
LOGITS = "logits"
"""Output of an exported segmentation graph: (batch, classes, H, W), or (batch, classes, D, H, W) of
a 3-D network, float32."""
Spacing: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True)
class SliceSegmenter:
    """Segments a volume slice by slice.

    Attributes:
        spec: preprocessing of a slice.
        classes: with the background.
        scores: (n, 3, size, size) float32 → (n, classes, size, size) float32, higher is likelier.
    """

    spec: PreprocessSpec
    classes: int
    scores: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class VolumeSegmenter:
    """Segments a volume as a whole.

    Attributes:
        spec: intensity rule of the volume; its image size is of no meaning.
        classes: with the background.
        scores: (slices, height, width) float32 grey → (classes, slices, height, width) float32.
        spacing: that the network was trained at; None for the files' own.
    """

    spec: PreprocessSpec
    classes: int
    scores: Callable[[np.ndarray], np.ndarray]
    spacing: Spacing | None = None


AnySegmenter: TypeAlias = SliceSegmenter | VolumeSegmenter


def segment_study(segmenter: AnySegmenter, study: Study) -> np.ndarray:
    """Segment a study.

    Args:
        segmenter: of slices or of volumes.
        study: as `read_study` gives it.

    Returns:
        (slices, height, width) uint8 class indices on the study's grid, 0 = background.

    Raises:
        DataError: pixels that the preprocessing cannot take.
    """
    shown = study.displayed()
    if isinstance(segmenter, VolumeSegmenter):
        mask = _whole(segmenter, shown)
    else:
        mask = _by_slices(segmenter, shown)
    return undisplayed(mask, study)


def _by_slices(segmenter: SliceSegmenter, shown: Study) -> np.ndarray:
    spec = segmenter.spec
    preprocess = Preprocessor(spec)
    height, width = shown.pixels.shape[1:3]
    spacing = in_plane(shown)
    mask = np.empty((shown.num_slices, height, width), np.uint8)
    for start in range(0, shown.num_slices, ROWS):
        indexes = range(start, min(start + ROWS, shown.num_slices))
        pixels = np.stack([preprocess(shown.slice(index)) for index in indexes])
        for index, scores in zip(indexes, segmenter.scores(pixels), strict=True):
            mask[index] = scores_to_study(scores, (height, width), spec, spacing).argmax(axis=0)
    return mask


def _whole(segmenter: VolumeSegmenter, shown: Study) -> np.ndarray:
    from dinorad_rt.training.segmentation.volumes import at_spacing, scores_at, volume_grey

    slices, height, width = shown.pixels.shape[:3]
    scores = segmenter.scores(volume_grey(at_spacing(shown, segmenter.spacing), segmenter.spec))
    mask: np.ndarray = scores_at(scores, (slices, height, width)).argmax(axis=0)
    return mask.astype(np.uint8)


def module_segmenter(
    module: nn.Module, spec: PreprocessSpec, classes: int, *, device: str = "cpu"
) -> SliceSegmenter:
    """A PyTorch module from normalised pixels to logits, in eval mode."""
    import torch

    module = module.to(device).eval()

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        found = module(torch.from_numpy(pixels).to(device))
        array: np.ndarray = found.float().cpu().numpy()
        return array

    return SliceSegmenter(spec, classes, scores)


def runner_segmenter(
    runner: AbstractRunner,
    spec: PreprocessSpec,
    classes: int,
    decoder: nn.Module | None = None,
    *,
    device: str = "cpu",
) -> SliceSegmenter:
    """An open engine: of encoder and decoder, or of the encoder with the decoder in PyTorch.

    Args:
        runner: gives `logits`, or, with a decoder, `patch_tokens`.
        spec: preprocessing of the engine's size.
        classes: with the background.
        decoder: tokens → logits.
        device: of the decoder.
    """
    if decoder is None:
        return SliceSegmenter(spec, classes, lambda pixels: runner.infer(pixels)[LOGITS])
    import torch

    module = decoder.to(device).eval()

    @torch.inference_mode()
    def scores(pixels: np.ndarray) -> np.ndarray:
        tokens = torch.from_numpy(runner.infer(pixels)["patch_tokens"]).to(device)
        array: np.ndarray = module(tokens).float().cpu().numpy()
        return array

    return SliceSegmenter(spec, classes, scores)


def volume_segmenter(
    module: nn.Module,
    spec: PreprocessSpec,
    classes: int,
    patch: tuple[int, int, int],
    spacing: Spacing | None = None,
    *,
    device: str = "cpu",
) -> VolumeSegmenter:
    """A 3-D network by sliding windows."""
    import torch

    module = module.to(device).eval()

    @torch.inference_mode()
    def scores(volume: np.ndarray) -> np.ndarray:
        grey = torch.from_numpy(volume)[None, None].to(device)
        array: np.ndarray = sliding_logits(module, grey, patch)[0].float().cpu().numpy()
        return array

    return VolumeSegmenter(spec, classes, scores, spacing)


def patch_segmenter(
    runner: AbstractRunner,
    spec: PreprocessSpec,
    classes: int,
    spacing: Sequence[float] | None = None,
) -> VolumeSegmenter:
    """An open engine of a 3-D network, by sliding windows of its own patch.

    Args:
        runner: takes patches (batch, 1, slices, height, width), gives `logits`.
        spec: intensity rule of the volume.
        classes: with the background.
        spacing: (slice, row, column) that the network was trained at, in mm; None for the files'
            own.
    """
    import torch

    step = None if spacing is None else (spacing[0], spacing[1], spacing[2])

    def network(patches: torch.Tensor) -> torch.Tensor:
        return torch.from_numpy(runner.infer(patches.contiguous().numpy())[LOGITS])

    def scores(volume: np.ndarray) -> np.ndarray:
        grey, patch = torch.from_numpy(volume)[None, None], runner.input_shape[1:]
        array: np.ndarray = sliding_logits(network, grey, patch, rows=runner.batch)[0].numpy()
        return array

    return VolumeSegmenter(spec, classes, scores, step)


def graph_segmenter(
    runner: AbstractRunner, spec: PreprocessSpec, classes: int, spacing: Sequence[float] | None
) -> AnySegmenter:
    """An open engine of a run's graph: of slices or of patches, as its input says.

    Args:
        runner: gives `logits`.
        spec: preprocessing of the run.
        classes: with the background.
        spacing: of a 3-D network, (slice, row, column) in mm; None for the files' own.
    """
    if len(runner.input_shape) == 3:
        return runner_segmenter(runner, spec, classes)
    return patch_segmenter(runner, spec, classes, spacing)
