"""`load_backbone`: one architecture with one set of weights at one input size, ready to export."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.backbones.registry import get_spec
from dinorad_rt.backbones.spec import BackboneSpec
from dinorad_rt.errors import HubUnreachableError, WeightsError

if TYPE_CHECKING:
    import torch

WeightsKind = Literal["hub", "file", "random"]
RANDOM_LICENCE = "none (random weights)"


@dataclass(frozen=True)
class WeightsInfo:
    """Where weights came from, for every result that rests on them.

    Attributes:
        kind: hub, file or random.
        sha256: of the file; of the shards' names and hashes; of the tensors for random weights.
        source: the published source, the name of the file or of the index of shards (never the
            folder), or the seed.
        licence: of the weights.
        notes: what was decided, converted or left out, one sentence each.
        normalisation: mean, std and the file beside the weights that states them, where they are
            not the model's own and were followed; the backbone's spec has them.
    """

    kind: WeightsKind
    sha256: str
    source: str
    licence: str
    notes: tuple[str, ...] = ()
    normalisation: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Backbone:
    """A loaded backbone.

    Attributes:
        spec: the facts; mean and std are those that a file beside the user's weights states.
        module: timm or torchvision module without a classifier, in eval mode, float32, on the CPU;
            its position embeddings are already those of `image_size`. Called on (batch, 3,
            image_size, image_size) it gives (batch, dim).
        weights: where the weights came from.
        image_size: input side in pixels.
    """

    spec: BackboneSpec
    module: torch.nn.Module
    weights: WeightsInfo
    image_size: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(3, image_size, image_size) of one image."""
        return 3, self.image_size, self.image_size


def load_backbone(
    name: str,
    *,
    weights: str | Path = "hub",
    image_size: int | None = None,
    seed: int = 0,
) -> Backbone:
    """Load a backbone.

    Args:
        name: short name or timm name.
        weights: `hub`, `random`, `auto` (hub, else random, said in the notes), or the path of a
            safetensors or PyTorch checkpoint under its publisher's key names, of its folder, or of
            the folder of a checkpoint in shards.
        image_size: input side in pixels, a multiple of the patch; None for the spec's own.
        seed: of random weights.

    Raises:
        UnknownNameError: no such backbone.
        HubUnreachableError: the published weights cannot be had (`hub`).
        CheckpointMismatchError: another architecture, or half a checkpoint.
        WeightsError: an input size that the weights cannot take, or an unreadable file.
    """
    spec = get_spec(name)
    size = check_image_size(spec, image_size)
    if weights == "random":
        return _random_backbone(spec, size, seed)
    if weights not in ("hub", "auto"):
        return _load_file(spec, size, Path(weights).expanduser())
    from dinorad_rt.backbones.hub import fetch

    try:
        return _load_file(spec, size, fetch(spec), kind="hub")
    except HubUnreachableError as error:
        if weights == "hub":
            raise
        return _random_backbone(spec, size, seed, f"weights: random. {error.problem}")


def check_image_size(spec: BackboneSpec, image_size: int | None) -> int:
    """The input side to use.

    Raises:
        WeightsError: not a multiple of the patch, or the weights know another size only.
    """
    size = spec.image_size if image_size is None else image_size
    if spec.position == "fixed" and size != spec.native_size:
        raise WeightsError(
            f"{spec.name} takes images of {spec.native_size} px only, {size} px were asked for.",
            f"Leave it out, or use --image-size {spec.native_size}",
        )
    step = spec.patch or 1
    if size < step or size % step:
        below, above = max(step, size // step * step), max(step, (size // step + 1) * step)
        raise WeightsError(
            f"{spec.name} cuts images into patches of {step} px; {size} px is no multiple of it.",
            f"Use --image-size {below} or --image-size {above}",
        )
    return size


def build_module(spec: BackboneSpec, image_size: int, *, meta: bool = False) -> torch.nn.Module:
    """The architecture without trained weights, in eval mode.

    Args:
        spec: the facts.
        image_size: input side in pixels.
        meta: allocate no memory for tensors that a checkpoint will replace.
    """
    import torch

    with torch.device("meta" if meta else "cpu"):
        if spec.architecture.startswith("torchvision:"):
            module = _torchvision_module(spec.architecture.removeprefix("torchvision:"))
        else:
            module = _timm_module(spec, image_size)
    return module.eval().requires_grad_(False)


def _timm_module(spec: BackboneSpec, image_size: int) -> torch.nn.Module:
    import timm
    import torch

    options: dict[str, Any] = dict(spec.create)
    if spec.patch is not None or spec.position == "fixed":
        options["img_size"] = image_size
    module: torch.nn.Module = timm.create_model(
        spec.architecture, pretrained=False, num_classes=0, **options
    )
    if spec.family == "sam":
        module.neck = torch.nn.Identity()
    return module


def _torchvision_module(name: str) -> torch.nn.Module:
    """The convolutional part and global average pooling."""
    from collections import OrderedDict

    import torchvision
    from torch import nn

    features = torchvision.models.get_model(name, weights=None).features
    layers = OrderedDict(features=features, pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    return nn.Sequential(layers)


def _load_file(
    spec: BackboneSpec, image_size: int, path: Path, kind: WeightsKind = "file"
) -> Backbone:
    from dinorad_rt.backbones.checkpoints import fit_checkpoint, read_checkpoint
    from dinorad_rt.backbones.declared import (
        check_folder,
        normalisation_note,
        other_normalisation,
    )
    from dinorad_rt.backbones.locate import FILE_NAMES, INDEX_NAMES, find_weights

    files = find_weights(path)
    checkpoint = read_checkpoint(files)
    module = build_module(spec, image_size, meta=True)
    if _has_computed_buffers(module):
        module = build_module(spec, image_size)
    notes = fit_checkpoint(module, checkpoint, spec, files.name)
    other = None
    if files.name in (*FILE_NAMES, *INDEX_NAMES):
        check_folder(files.files[0].parent, module, spec)
        other = other_normalisation(files.files[0].parent, spec)
    follow = other if kind == "file" else None
    if other is not None:
        notes += (normalisation_note(other, spec, followed=follow is not None),)
    if follow is not None:
        spec = replace(spec, mean=follow.mean, std=follow.std)
    digest = files.sha256()
    info = WeightsInfo(
        kind=kind,
        sha256=digest,
        source=spec.source if kind == "hub" else files.name,
        licence=_licence(spec, kind, digest, checkpoint.licence),
        notes=notes,
        normalisation=None if follow is None else follow.as_dict(),
    )
    return Backbone(spec, module.eval().requires_grad_(False), info, image_size)


def _licence(spec: BackboneSpec, kind: WeightsKind, digest: str, stated: str | None) -> str:
    if kind == "hub" or digest == spec.sha256:
        return spec.licence
    return stated or f"not stated in the file; published weights of {spec.name}: {spec.licence}"


def _has_computed_buffers(module: torch.nn.Module) -> bool:
    """True if the constructor computes buffers that no checkpoint holds, such as rotary tables."""
    return any(part._non_persistent_buffers_set for part in module.modules())


def _random_backbone(spec: BackboneSpec, image_size: int, seed: int, *notes: str) -> Backbone:
    from dinorad_rt.backbones.random_weights import fill_random

    module = build_module(spec, image_size, meta=True)
    if any(True for _ in module.buffers()):
        module = build_module(spec, image_size)
    else:
        module = module.to_empty(device="cpu")
    fill_random(module, seed, convolutional=spec.family == "cnn")
    info = WeightsInfo(
        kind="random",
        sha256=_sha256_tensors(module),
        source=f"random, seed {seed}",
        licence=RANDOM_LICENCE,
        notes=notes or (f"weights: random, seed {seed}",),
    )
    return Backbone(spec, module, info, image_size)


def _sha256_tensors(module: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for key, tensor in sorted(module.state_dict().items()):
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}\n".encode())
        digest.update(tensor.contiguous().numpy().data)
    return digest.hexdigest()
