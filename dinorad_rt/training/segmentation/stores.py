"""What training reads at each step: masks, grey slices and patch tokens, filled once and kept.

Each store answers one question (dataset, preprocessing, engine, classes, augmentation), so that
another run with the same question finds it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dinorad_rt.datasets.dataset import Sample
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.segmentation.arrays import ArrayStore, check_lengths, usable
from dinorad_rt.training.segmentation.augment import slice_augmentation
from dinorad_rt.training.segmentation.fill import (
    fill_greys,
    fill_masks,
    fill_tokens,
    question_of,
)
from dinorad_rt.training.segmentation.work import Work
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.engines.manifest import Engine


def token_stores(
    work: Work, spec: PreprocessSpec, engine: Engine, blocks: int
) -> tuple[ArrayStore, ArrayStore]:
    """Masks and tokens of training and validation, filled."""
    masks = filled_masks(work, spec)
    question = question_of("tokens", work.dataset, spec, engine=engine.key, blocks=blocks)
    tokens = ArrayStore.open(question)
    samples = [*work.samples("train"), *work.samples("val")]
    todo = len(tokens.missing(samples))
    if todo:
        what = count_of(todo, "image or volume", "images or volumes")
        work.say(f"computing patch tokens of {what}, once")
        fill_tokens(
            tokens,
            samples,
            engine,
            spec,
            blocks=blocks,
            workers=work.workers,
            progress=work.progress,
        )
    work.say(f"patch tokens: {tokens.nbytes(samples) / 2**20:.0f} MiB in the cache")
    return masks, tokens


def filled_masks(work: Work, spec: PreprocessSpec) -> ArrayStore:
    """Masks of training and validation on the network's grid, filled."""
    question = question_of("masks", work.dataset, spec, classes=work.classes)
    masks = ArrayStore.open(question)
    fill_masks(masks, [*work.samples("train"), *work.samples("val")], spec, work.classes)
    return masks


def filled_greys(work: Work, spec: PreprocessSpec) -> ArrayStore:
    """Grey slices of training and validation, filled."""
    greys = ArrayStore.open(question_of("greys", work.dataset, spec))
    samples = [*work.samples("train"), *work.samples("val")]
    work.say(f"reading {count_of(len(samples), 'image or volume', 'images or volumes')}")
    fill_greys(greys, samples, spec, workers=work.workers, progress=work.progress)
    return greys


def view_stores(
    work: Work,
    known: tuple[ArrayStore, list[Sample]],
    engine: Engine,
    spec: PreprocessSpec,
    blocks: int,
) -> list[tuple[ArrayStore, ArrayStore]]:
    """Tokens and masks of augmented copies of the training slices, filled."""
    from dinorad_rt.training.segmentation.views import fill_view

    settings, (masks, train) = work.settings, known
    if settings.views == 1 or settings.augmentation == "none":
        return []
    greys = ArrayStore.open(question_of("greys", work.dataset, spec))
    fill_greys(greys, train, spec, workers=work.workers)
    train = usable(train, greys, what="training")
    augment = slice_augmentation(settings.augmentation, mirror=work.mirror)
    found = []
    for number in range(1, settings.views):
        asked = {
            "view": number,
            "augmentation": settings.augmentation,
            "mirror": work.mirror,
        }
        dense = asked | {"engine": engine.key, "blocks": blocks}
        view = (
            ArrayStore.open(question_of("tokens", work.dataset, spec, **dense)),
            ArrayStore.open(
                question_of("masks", work.dataset, spec, classes=work.classes, **asked)
            ),
        )
        work.say(f"view {number + 1} of {settings.views}: augmented copies")
        fill_view(
            view,
            (greys, masks),
            train,
            engine,
            spec,
            augment=augment,
            blocks=blocks,
            progress=work.progress,
        )
        found.append(view)
    return found


def usable_samples(work: Work, split: str, *stores: ArrayStore) -> list[Sample]:
    """The samples of a split that every store holds; what is left out is said with its reason.

    Raises:
        EmptyDataError: none is left.
    """
    samples = work.samples(split)
    kept = usable(samples, *stores, what=split)
    check_lengths(kept, *stores)
    if len(kept) < len(samples):
        reasons = {r for store in stores for r in store.failures.values()}
        work.say(
            f"{len(samples) - len(kept)} of {len(samples)} {split} images cannot be read and are "
            f"left out: {'; '.join(sorted(reasons)[:3])}"
        )
    return kept
