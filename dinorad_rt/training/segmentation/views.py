"""Augmented copies whose patch tokens are kept beside the plain ones. Needs torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from dinorad_rt.progress import Progress
from dinorad_rt.training.seeds import seed_of
from dinorad_rt.training.segmentation.arrays import ArrayStore
from dinorad_rt.training.segmentation.augment import Augment
from dinorad_rt.training.segmentation.fill import half_tokens

if TYPE_CHECKING:
    from dinorad_rt.datasets.dataset import Sample
    from dinorad_rt.engines.manifest import Engine
    from dinorad_rt.preprocessing.spec import PreprocessSpec


def fill_view(
    view: tuple[ArrayStore, ArrayStore],
    plain: tuple[ArrayStore, ArrayStore],
    samples: Sequence[Sample],
    engine: Engine,
    spec: PreprocessSpec,
    *,
    augment: Augment,
    blocks: int,
    progress: Progress | None = None,
) -> None:
    """Augment every slice once and keep its tokens and its mask.

    Args:
        view: tokens and masks to fill; its number is in the questions of the stores.
        plain: grey slices and masks, filled.
        samples: of the training split.
        engine, spec, blocks: as in `fill.fill_tokens`.
        augment: of slices.
        progress: called with (done, total) samples.

    Raises:
        EngineError: tokens beyond float16.
    """
    from dinorad_rt.engines.build import open_runner

    tokens, masks = view
    todo = {s.sample_id: s for store in view for s in store.missing(samples)}
    if not todo:
        return
    mean, std = (np.asarray(v, np.float32).reshape(3, 1, 1) for v in (spec.mean, spec.std))
    number = int(tokens.question["view"])
    place = {sample.sample_id: at for at, sample in enumerate(samples)}
    with open_runner(engine) as runner:
        for done, ident in enumerate(todo, start=1):
            pairs = list(_augmented(ident, (number, place[ident]), plain, augment))
            pixels = np.stack([(image - mean) / std for image, _ in pairs]).astype(np.float32)
            tokens.write(ident, half_tokens(runner.infer(pixels)["patch_tokens"], blocks))
            masks.write(ident, np.stack([mask for _, mask in pairs]))
            if progress is not None:
                progress(done, len(todo))


def _augmented(
    ident: str, place: tuple[int, int], plain: tuple[ArrayStore, ArrayStore], augment: Augment
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    greys, masks = (store.read(ident) for store in plain)
    for at, (grey, mask) in enumerate(zip(greys, masks, strict=True)):
        pair = torch.from_numpy(grey.astype(np.float32)), torch.from_numpy(np.array(mask))
        image, moved = augment(pair, seed_of(*place, at))
        yield image.numpy(), moved.numpy()
