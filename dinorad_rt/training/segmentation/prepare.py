"""From a dataset and settings to a job for the loop, and to the segmenter that is judged after it.

Imported late: torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from dinorad_rt.errors import ProtocolError
from dinorad_rt.export.recipe import load_recipe
from dinorad_rt.pipeline import load
from dinorad_rt.preprocessing.spec import PreprocessSpec
from dinorad_rt.training.base import backbone_facts, remember_weights
from dinorad_rt.training.segmentation import predict
from dinorad_rt.training.segmentation.arrays import ArrayStore
from dinorad_rt.training.segmentation.augment import (
    patch_augmentation,
    slice_augmentation,
)
from dinorad_rt.training.segmentation.baselines import (
    NETWORKS,
    Network,
    build_network,
    check_patch,
    network_named,
)
from dinorad_rt.training.segmentation.decoders import PATCH_BLOCKS
from dinorad_rt.training.segmentation.fill import question_of
from dinorad_rt.training.segmentation.jobs import (
    AbstractSegmentationJob,
    PatchJob,
    SliceJob,
    TokenJob,
)
from dinorad_rt.training.segmentation.load import grid_side
from dinorad_rt.training.segmentation.model import Segmenter, encoder_of
from dinorad_rt.training.segmentation.rows import PatchRows, SliceRows, TokenRows
from dinorad_rt.training.segmentation.settings import SegmentationSettings
from dinorad_rt.training.segmentation.stores import (
    filled_greys,
    filled_masks,
    token_stores,
    usable_samples,
    view_stores,
)
from dinorad_rt.training.segmentation.work import (
    SCRATCH_SIZE,
    Opener,
    Prepared,
    Work,
    backbone_spec,
    check_dataset,
    scratch_spec,
)
from dinorad_rt.words import count_of

if TYPE_CHECKING:
    from dinorad_rt.backbones.load import Backbone
    from dinorad_rt.engines.manifest import Engine


def prepare(work: Work) -> Prepared:
    """Compute or find everything that does not change while training.

    Raises:
        ProtocolError: the dataset has no masks, or a network that does not fit it.
        EmptyDataError: a split without (readable) images.
    """
    check_dataset(work.dataset)
    if work.settings.model in NETWORKS:
        network = network_named(work.settings.model)
        return _prepare_patches(work, network) if network.dims == 3 else _scratch(work, network)
    return _cached(work) if work.settings.encoder == "cached" else _encoder(work)


def _cached(work: Work) -> Prepared:
    """A decoder on patch tokens that the engine computes once."""
    settings, request = work.settings, work.request
    backbone = load(request, work.say)
    _check_tokens(backbone)
    remember_weights(backbone, request.weights)
    engine = _dense_engine(backbone, work)
    spec = backbone_spec(settings, backbone)
    blocks = PATCH_BLOCKS[settings.decoder]
    masks, tokens = token_stores(work, spec, engine, blocks)
    train = usable_samples(work, "train", tokens, masks)
    val = usable_samples(work, "val", tokens, masks)
    train = work.training(train, val)
    views = [(tokens, masks), *view_stores(work, (masks, train), engine, spec, blocks)]
    _, count, dim = engine.outputs["patch_tokens"]
    head = {"decoder": settings.decoder, "dim": int(dim), "grid": grid_side(int(count))}
    facts = {
        "kind": "segmenter",
        "backbone": backbone_facts(backbone, request.seed),
        "method": work.method(precision=engine.precision),
        "head": head,
        "preprocessing": spec.as_dict(),
    }
    decoder = work.decoder(head, spec.image_size)
    job = TokenJob(decoder, work.plan(TokenRows(train, views), val, masks, facts), tokens)

    @contextmanager
    def opened() -> Iterator[predict.AnySegmenter]:
        from dinorad_rt.engines.build import open_runner

        with open_runner(engine) as runner:
            yield predict.runner_segmenter(
                runner, spec, work.classes, decoder, device=str(job.device)
            )

    return Prepared(job, opened, _provenance(backbone, spec, engine), _unaugmented(settings))


def _encoder(work: Work) -> Prepared:
    """Encoder and decoder in PyTorch: the encoder frozen or trained."""
    settings, request = work.settings, work.request
    backbone = load(request, work.say)
    _check_tokens(backbone)
    remember_weights(backbone, request.weights)
    spec = backbone_spec(settings, backbone)
    trained = settings.encoder == "trained"
    encoder = encoder_of(backbone.module, PATCH_BLOCKS[settings.decoder], trained=trained)
    side = backbone.image_size
    with torch.no_grad():
        _, _, count, dim = encoder(torch.zeros(1, 3, side, side)).shape
    head = {"decoder": settings.decoder, "dim": dim, "grid": grid_side(count)}
    decoder = work.decoder(head, side)
    facts = {
        "kind": "segmenter",
        "backbone": backbone_facts(backbone, request.seed),
        "method": work.method(),
        "head": head,
        "preprocessing": spec.as_dict(),
    }
    module = Segmenter(decoder, encoder)
    job = _slice_job(work, module, spec, facts)
    return Prepared(job, _of_module(job, spec, work.classes), _provenance(backbone, spec))


def _scratch(work: Work, network: Network) -> Prepared:
    """A 2-D network from scratch."""
    settings = work.settings
    size = settings.image_size or SCRATCH_SIZE
    spec = scratch_spec(settings, size)
    torch.manual_seed(work.loop.seed)
    module = build_network(network.name, classes=work.classes, size=size, width=settings.width)
    job = _slice_job(work, module, spec, _network_facts(work, network, spec))
    return Prepared(job, _of_module(job, spec, work.classes), _provenance(None, spec))


def _prepare_patches(work: Work, network: Network) -> Prepared:
    """A 3-D network from scratch."""
    from dinorad_rt.training.segmentation.volumes import fill_volumes, side_axis, spacing_notes

    settings = work.settings
    check_patch(network, settings.patch)
    spec = scratch_spec(settings, SCRATCH_SIZE)
    question = {"spacing": settings.spacing, "classes": work.classes}
    volumes, masks = (
        ArrayStore.open(question_of(kind, work.dataset, spec, **question))
        for kind in ("volumes", "volume masks")
    )
    samples = [*work.samples("train"), *work.samples("val")]
    work.say(f"reading {count_of(len(samples), 'volume')}")
    fill_volumes(
        (volumes, masks), samples, spec, settings.spacing, work.classes, progress=work.progress
    )
    train, val = (usable_samples(work, split, volumes, masks) for split in ("train", "val"))
    augment = patch_augmentation(
        settings.augmentation, settings.patch, mirror=work.mirror, left_right=side_axis(train[0])
    )
    torch.manual_seed(work.loop.seed)
    module = build_network(network.name, classes=work.classes, width=settings.width)
    rows = PatchRows(train, volumes, masks, augment, settings.per_volume)
    facts = _network_facts(work, network, spec)
    job = PatchJob(module, work.plan(rows, val, masks, facts), volumes, settings.patch)

    @contextmanager
    def opened() -> Iterator[predict.AnySegmenter]:
        yield predict.volume_segmenter(
            job.module,
            spec,
            work.classes,
            settings.patch,
            settings.spacing,
            device=str(job.device),
        )

    notes = spacing_notes(train) if settings.spacing is None else ()
    return Prepared(job, opened, _provenance(None, spec), notes)


def _check_tokens(backbone: Backbone) -> None:
    if load_recipe(backbone.spec.family).graph != "tokens":
        raise ProtocolError(
            f"{backbone.spec.name} gives no patch tokens: a decoder has nothing to read.",
            "Use a vision transformer (dinorad-rt list models), or a network from scratch: "
            "--model unet",
        )


def _dense_engine(backbone: Backbone, work: Work) -> Engine:
    from dinorad_rt.export.onnx_export import export_onnx
    from dinorad_rt.pipeline import build_engine, resolve_precision

    request = work.request
    precision = resolve_precision(request.precision, request.backend)
    graph = export_onnx(backbone, precision=precision, dense=True, progress=work.say)
    return build_engine(graph, backend=request.backend, profile=request.profile, say=work.say)


def _slice_job(
    work: Work, module: torch.nn.Module, spec: PreprocessSpec, facts: dict[str, Any]
) -> SliceJob:
    masks, greys = filled_masks(work, spec), filled_greys(work, spec)
    train, val = (usable_samples(work, split, greys, masks) for split in ("train", "val"))
    augment = slice_augmentation(work.settings.augmentation, mirror=work.mirror)
    return SliceJob(
        module,
        work.plan(SliceRows(work.training(train, val), greys, masks, augment), val, masks, facts),
        greys,
        (spec.mean, spec.std),
        encoder_lr=work.settings.encoder_lr,
    )


def _network_facts(work: Work, network: Network, spec: PreprocessSpec) -> dict[str, Any]:
    settings = work.settings
    return {
        "kind": "segmenter",
        "model": {
            "name": network.name,
            "dims": network.dims,
            "width": settings.width,
            "patch": list(settings.patch),
            "spacing": settings.spacing,
        },
        "method": work.method(),
        "preprocessing": spec.as_dict(),
    }


def _of_module(job: AbstractSegmentationJob, spec: PreprocessSpec, classes: int) -> Opener:
    @contextmanager
    def opened() -> Iterator[predict.AnySegmenter]:
        yield predict.module_segmenter(job.module, spec, classes, device=str(job.device))

    return opened


def _provenance(
    backbone: Backbone | None, spec: PreprocessSpec, engine: Engine | None = None
) -> dict[str, Any]:
    from dinorad_rt.embeddings.provenance import engine_facts

    found: dict[str, Any] = {"preprocessing": spec.as_dict()}
    if backbone is None:
        return found | {"weights_kind": "from scratch"}
    found |= {"backbone": backbone_facts(backbone), "weights_kind": backbone.weights.kind}
    return found if engine is None else found | {"engine": engine_facts(engine)}


def _unaugmented(settings: SegmentationSettings) -> tuple[str, ...]:
    if settings.views > 1 or settings.augmentation == "none":
        return ()
    return (
        "Cached tokens of one view: the training images were not augmented (--views 4 keeps three "
        "augmented copies of each).",
    )
