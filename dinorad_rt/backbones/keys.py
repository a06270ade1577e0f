"""Key names of published checkpoints, renamed to those of timm and torchvision.

    official DINO, DINOv2, DINOv3, MAE, DeiT  blocks.0.attn.qkv.weight (chunked: blocks.0.3.attn…)
    Hugging Face ViT, DeiT, BEiT, MSN, MAE,   encoder.layer.0.attention.attention.query.weight
    DINOv2 and DINOv3
    Hugging Face CLIP, SigLIP and SigLIP 2    vision_model.encoder.layers.0.self_attn.q_proj.weight
    OpenAI and open_clip                      visual.transformer.resblocks.0.attn.in_proj_weight
    open_clip with a timm trunk               visual.trunk.blocks.0.attn.qkv.weight
    Hugging Face ConvNeXt and Swin, DaViT     see `staged`
    SAM, official and Hugging Face            image_encoder.blocks.0.…, vision_encoder.layers.0.…
    torchvision                               features.denseblock1.denselayer1.norm.1.weight

Renaming looks at names alone and never invents a tensor; `adapt` then fits the values to one
architecture, and `fit` refuses what is left over or missing.
Imported late: it needs torch.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch

from dinorad_rt.backbones.rules import (
    DENSENET,
    OFFICIAL,
    OPENAI_CLIP,
    SAM,
    TRANSFORMERS,
    TRANSFORMERS_CLIP,
    TRANSFORMERS_SIGLIP,
    VGG,
    Rules,
)
from dinorad_rt.backbones.staged import (
    CONVNEXT,
    DAVIT,
    DINOV3_CONVNEXT,
    SWIN,
    next_stage,
)
from dinorad_rt.errors import WeightsError

Tensors = dict[str, torch.Tensor]

PREFERRED = ("teacher", "target_encoder", "base_encoder", "encoder_q")
"""Of two backbones in one file, the one that its publisher uses after training; last MoCo's."""


@dataclass
class Renamed:
    """Tensors under timm's names.

    Attributes:
        dialect: whose key names the file uses.
        tensors: the backbone's tensors.
        left_out: part of the file that is not the backbone → number of its tensors.
    """

    dialect: str
    tensors: Tensors
    left_out: dict[str, int] = field(default_factory=dict)

    def drop(self, pattern: str, part: str) -> None:
        """Leave out every key that `pattern` matches at its start."""
        gone = [key for key in self.tensors if re.match(pattern, key)]
        for key in gone:
            del self.tensors[key]
        if gone:
            self.left_out[part] = self.left_out.get(part, 0) + len(gone)


def rename(tensors: Tensors) -> Renamed:
    """Recognise whose key names these are and rename them.

    Args:
        tensors: flat state dict; wrappers such as `module.` are already gone.

    Raises:
        WeightsError: several backbones, and none is the teacher; or of a kind that is not read.
    """
    for tower, convert in _TOWERS:
        prefixes = {re.sub(tower, "", key) for key in tensors if re.search(tower, key)}
        if prefixes:
            prefix = _one_tower(sorted(prefixes))
            inside = {
                key[len(prefix) :]: value
                for key, value in tensors.items()
                if key.startswith(prefix)
            }
            renamed = convert(inside)
            if len(inside) < len(tensors):
                part = _outside_name(tensors, prefix)
                renamed.left_out[part] = len(tensors) - len(inside)
            break
    else:
        renamed = _plain(tensors)
    renamed.drop(r"(mask_token|masked_embed)$", "mask token")
    return renamed


def _one_tower(prefixes: list[str]) -> str:
    """The prefix of the only backbone, or of the one that its publisher uses."""
    preferred = [one for one in prefixes if any(word in one for word in PREFERRED)]
    if len(prefixes) > 1 and len(preferred) != 1:
        raise WeightsError(
            f"The file holds {len(prefixes)} backbones, under the keys "
            f"{', '.join(f'{one}*' for one in prefixes)}.",
            "Save the one that is meant alone, its keys without that prefix.",
        )
    return (preferred or prefixes)[0]


def has_tower(tensors: Mapping[str, torch.Tensor]) -> bool:
    """True if the names are of a kind that `rename` finds under any prefix by itself."""
    return any(re.search(tower, key) for tower, _ in _TOWERS for key in tensors)


def _apply(rules: Rules, tensors: Mapping[str, torch.Tensor]) -> Tensors:
    renamed: Tensors = {}
    for key, value in tensors.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def _outside_name(tensors: Tensors, prefix: str) -> str:
    roots = sorted({key.split(".")[0] for key in tensors if not key.startswith(prefix)})
    return f"outside {prefix.rstrip('.')}: {', '.join(roots)}"


def _transformers(tensors: Tensors) -> Renamed:
    renamed = Renamed("Hugging Face transformers", _apply(TRANSFORMERS, tensors))
    renamed.drop(r"pooler\.", "pooler")
    renamed.drop(r".*\.relative_position_index$", "position indices")
    _join_gated(renamed.tensors)
    return renamed


def _join_gated(tensors: Tensors) -> None:
    """Gate and up projections: one matrix, as in DINOv2; up alone: a plain first layer."""
    for key in [key for key in tensors if ".mlp.up_proj." in key]:
        gate, first = key.replace(".up_proj.", ".gate_proj."), key.replace(".up_proj.", ".fc1.")
        up = tensors.pop(key)
        tensors[first] = torch.cat((tensors.pop(gate), up)) if gate in tensors else up


def _transformers_clip(tensors: Tensors) -> Renamed:
    renamed = Renamed("Hugging Face CLIP", _apply(TRANSFORMERS_CLIP, tensors))
    renamed.drop(r"embeddings\.position_ids$", "position indices")
    _add_batch_axis(renamed.tensors)
    return renamed


def _transformers_siglip(tensors: Tensors) -> Renamed:
    patches = tensors["embeddings.patch_embedding.weight"]
    if patches.ndim != 4:
        raise WeightsError(
            "These are weights of SigLIP 2 NaFlex: they cut images of any shape into a list of "
            "patches, resize positions for each, and are not read.",
            "Give the weights of one size, such as google/siglip2-base-patch16-256.",
        )
    renamed = Renamed("Hugging Face SigLIP", _apply(TRANSFORMERS_SIGLIP, tensors))
    renamed.drop(r"embeddings\.position_ids$", "position indices")
    _add_batch_axis(renamed.tensors)
    for kind in ("weight", "bias"):
        joint = renamed.tensors.pop(f"attn_pool.qkv.{kind}", None)
        if joint is not None:
            third = joint.shape[0] // 3
            renamed.tensors[f"attn_pool.q.{kind}"] = joint[:third]
            renamed.tensors[f"attn_pool.kv.{kind}"] = joint[third:]
    return renamed


def _openai_clip(tensors: Tensors) -> Renamed:
    renamed = Renamed("OpenAI CLIP", _apply(OPENAI_CLIP, tensors))
    renamed.drop(r"proj$", "projection to the text space")
    renamed.drop(r"(?!blocks\.|norm|cls_token|pos_embed|patch_embed\.)", "text tower")
    _add_batch_axis(renamed.tensors)
    return renamed


def _add_batch_axis(tensors: Tensors) -> None:
    for key in ("cls_token", "pos_embed"):
        if key in tensors:
            dim = tensors[key].shape[-1]
            tensors[key] = tensors[key].reshape(1, -1, dim)


def _convnext(tensors: Tensors) -> Renamed:
    of_dinov3 = any(".depthwise_conv." in key for key in tensors)
    renamed = Renamed(
        "Hugging Face ConvNeXt", _apply(DINOV3_CONVNEXT if of_dinov3 else CONVNEXT, tensors)
    )
    for key in [key for key in renamed.tensors if ".mlp.grn." in key]:
        renamed.tensors[key] = renamed.tensors[key].flatten()
    return renamed


def _davit(tensors: Tensors) -> Renamed:
    return Renamed("Florence's DaViT", _apply(DAVIT, tensors))


def _swin(tensors: Tensors) -> Renamed:
    named = {next_stage(key): value for key, value in _apply(SWIN, tensors).items()}
    renamed = Renamed("Hugging Face Swin", named)
    renamed.drop(r".*\.relative_position_index$", "position indices")
    return renamed


def _sam(tensors: Tensors) -> Renamed:
    renamed = Renamed("Segment Anything", _apply(SAM, tensors))
    renamed.drop(r"neck\.", "neck")
    return renamed


def _plain(tensors: Tensors) -> Renamed:
    """Names that are timm's or torchvision's already, or the publishers' of DINO, MAE and DeiT."""
    official = {"register_tokens", "storage_tokens", "mask_token"} & set(tensors)
    rules = OFFICIAL
    if any("denselayer" in key for key in tensors):
        rules = DENSENET
    elif any(key.startswith("classifier.6.") for key in tensors):
        rules = VGG
    renamed = Renamed("official" if official else "timm", _apply(rules, tensors))
    _official_dinov3(renamed)
    renamed.drop(r"decoder", "decoder")
    if any(".mlp.w3." in key for key in renamed.tensors):
        _rename_swiglu(renamed.tensors)
    return renamed


def _official_dinov3(renamed: Renamed) -> None:
    """The key bias is masked to zero in DINOv3: apply the mask, then leave it out."""
    tensors = renamed.tensors
    for key in [key for key in tensors if key.endswith(".attn.qkv.bias_mask")]:
        bias = tensors[key.removesuffix("_mask")].clone()
        third = bias.shape[0] // 3
        bias[third : 2 * third] = 0
        tensors[key.removesuffix("_mask")] = bias
        del tensors[key]
    renamed.drop(r"rope_embed\.periods$", "rotary periods")
    renamed.drop(r"local_cls_norm\.", "norm of local crops")


def _rename_swiglu(tensors: Tensors) -> None:
    """DINOv2: w12 (renamed to fc1) and w3. DINOv3: w1 (gate), w2 and w3."""
    names = {"w1": "fc1_g", "w2": "fc1_x", "w3": "fc2"}
    for key in [key for key in tensors if re.search(r"\.mlp\.w[123]\.", key)]:
        renamed = re.sub(r"\.mlp\.(w[123])\.", lambda found: f".mlp.{names[found[1]]}.", key)
        tensors[renamed] = tensors.pop(key)


def _timm_trunk(tensors: Tensors) -> Renamed:
    renamed = _plain(tensors)
    renamed.dialect = "open_clip with a timm trunk"
    return renamed


_TOWERS: tuple[tuple[str, Callable[[Tensors], Renamed]], ...] = (
    (r"embeddings\.class_embedding$", _transformers_clip),
    (r"(model\.)?stages\.0\.layers\.0\.depthwise_conv\.weight$", _convnext),
    (r"encoder\.stages\.0\.layers\.0\.dwconv\.weight$", _convnext),
    (r"encoder\.layers\.0\.blocks\.0\.layernorm_before\.weight$", _swin),
    (r"convs\.0\.proj\.weight$", _davit),
    (r"embeddings\.(cls_token|patch_embeddings\.(projection\.)?weight)$", _transformers),
    (r"class_embedding$", _openai_clip),
    (r"embeddings\.patch_embedding\.weight$", _transformers_siglip),
    (r"(?<=visual\.trunk\.)patch_embed\.proj\.weight$", _timm_trunk),
    (r"(?<=image_encoder\.)patch_embed\.proj\.weight$", _sam),
    (r"(?<=vision_encoder\.)patch_embed\.projection\.weight$", _sam),
)
