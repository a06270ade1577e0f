"""Names to `BackboneSpec`: our short names first, then plug-ins, then any timm name.

A package adds its own through the entry-point group `dinorad_rt.backbones`: each entry point is a
`BackboneSpec` or an iterable of them.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

from dinorad_rt.backbones.catalogue import CATALOGUE
from dinorad_rt.backbones.spec import BackboneSpec, PositionRule
from dinorad_rt.backbones.vision_language import TANH_GELU
from dinorad_rt.errors import UnknownNameError, unknown_name

if TYPE_CHECKING:
    import torch

ENTRY_POINT_GROUP = "dinorad_rt.backbones"
LISTING = "dinorad-rt list models"

_registered: dict[str, BackboneSpec] = {spec.name: spec for spec in CATALOGUE}


def register(spec: BackboneSpec) -> None:
    """Add a backbone under its own name.

    Raises:
        ValueError: the name is taken by another spec.
    """
    known = _registered.setdefault(spec.name, spec)
    if known != spec:
        raise ValueError(f"A backbone named {spec.name!r} is registered already: {known.title}")


def list_specs() -> tuple[BackboneSpec, ...]:
    """Every backbone with a short name, plug-ins included; loads neither torch nor timm."""
    _load_plugins()
    return tuple(_registered.values())


def get_spec(name: str) -> BackboneSpec:
    """The spec of a short name, or of any timm name with or without its tag.

    A short name loads neither torch nor timm.

    Raises:
        UnknownNameError: neither we nor timm know the name; the closest ones are in the message.
    """
    if name in _registered:
        return _registered[name]
    _load_plugins()
    if name in _registered:
        return _registered[name]
    return _timm_spec(name)


@cache
def _load_plugins() -> None:
    for point in entry_points(group=ENTRY_POINT_GROUP):
        found = point.load()
        for spec in [found] if isinstance(found, BackboneSpec) else found:
            register(spec)


@cache
def _timm_spec(name: str) -> BackboneSpec:
    """Derive the spec of a timm model from its pretrained configuration and its shape."""
    import timm
    import torch

    config = _timm_config(name)
    architecture = _own_activation(config)
    create = _own_options(config)
    options: dict[str, Any] = dict(create)
    with torch.device("meta"):
        module = timm.create_model(architecture, num_classes=0, **options)
    side = int(config.input_size[-1])
    family, patch = _family(module)
    return BackboneSpec(
        name=name,
        architecture=architecture,
        family=family,
        source=_source(config),
        licence=config.license or "unknown",
        title=name,
        training=f"timm weights {config.tag}" if config.tag else "none published",
        dim=_dim(module),
        patch=patch,
        image_size=side,
        native_size=side,
        mean=_triple(config.mean),
        std=_triple(config.std),
        crop=float(config.crop_pct),
        interpolation="bilinear" if config.interpolation == "bilinear" else "bicubic",
        position=_position_rule(module, patch, fixed=bool(config.fixed_input_size)),
        create=create,
    )


def _own_activation(config: Any) -> str:
    """timm's architecture; of weights trained with QuickGELU, the one that computes it.

    timm lists those under both and leaves the choice to the reader of its notes.
    """
    import timm

    architecture = str(config.architecture)
    quick = architecture.replace("_clip_", "_clip_quickgelu_")
    noted = any("QuickGELU" in note for note in config.notes or ())
    return (
        quick
        if noted and "quickgelu" not in architecture and timm.is_model(quick)
        else architecture
    )


def _own_options(config: Any) -> tuple[tuple[str, object], ...]:
    """What Google's SigLIP computes where timm's architecture has another form of it.

    flax's GELU is the approximation by tanh (vit.py of google-research/big_vision; transformers
    says so in config.json); some of timm's architectures compute the exact one. What was
    fine-tuned in timm was trained with timm's.
    """
    tuned = "_ft_" in str(config.tag or "")
    return TANH_GELU if "_siglip_" in str(config.architecture) and not tuned else ()


def _dim(module: Any) -> int:
    return int(getattr(module, "head_hidden_size", None) or module.num_features)


def _timm_config(name: str) -> Any:
    """Configuration of a timm name, or the error that names close ones."""
    import timm

    if ":" in name or not timm.is_model(name):
        raise unknown_name("model", name, [*_registered, *timm.list_models()], LISTING)
    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        architecture = name.split(".", 1)[0]
        tags = timm.list_models(f"{architecture}.*", pretrained=True, include_tags=True)
        raise UnknownNameError(
            f"timm knows the model {architecture}, but no weights {name!r}. "
            f"Published: {', '.join(tags) or 'none'}.",
            f"Choose one of these, or leave the tag out: --model {architecture}",
        ) from error
    if config is None:
        raise unknown_name("model", name, _registered, LISTING)
    return config


def _source(config: Any) -> str:
    if config.hf_hub_id:
        file = f"/{config.hf_hub_filename}" if config.hf_hub_filename else ""
        return f"hf:{config.hf_hub_id}{file}"
    return str(config.url or "")


def _family(module: torch.nn.Module) -> tuple[str, int | None]:
    """Recipe and patch side: transformers with a class token, or a head for one, keep tokens."""
    from timm.layers.attention_pool import AttentionPoolLatent
    from timm.models.eva import Eva
    from timm.models.vision_transformer import VisionTransformer
    from timm.models.vision_transformer_sam import VisionTransformerSAM

    for kind, family in ((VisionTransformer, "vit"), (Eva, "eva"), (VisionTransformerSAM, "sam")):
        if isinstance(module, kind):
            has_tokens = family == "sam" or getattr(module, "cls_token", None) is not None
            if not has_tokens:
                pools = isinstance(getattr(module, "attn_pool", None), AttentionPoolLatent)
                family = "siglip" if pools and family == "vit" else "cnn"
            patch: Any = module.patch_embed
            return family, int(patch.patch_size[0])
    return "cnn", None


def _position_rule(module: torch.nn.Module, patch: int | None, *, fixed: bool) -> PositionRule:
    if patch is None:
        return "fixed" if fixed else "none"
    return "timm" if getattr(module, "pos_embed", None) is not None else "rope"


def _triple(values: Any) -> tuple[float, float, float]:
    first, second, third = (float(value) for value in values)
    return first, second, third
