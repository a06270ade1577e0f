"""Which layers of a backbone adapters go into: the facts, once. Imported late: torch."""

from __future__ import annotations

from torch import nn

from dinorad_rt.errors import TrainingError

ATTENTION = ("qkv", "q_proj", "k_proj", "v_proj")
"""timm's joint projection, and the separate ones of Eva and DINOv3."""
FEED_FORWARD = ("fc1", "fc2", "fc1_g", "fc1_x", "w12", "w3")
"""The perceptron's layers (also of a packed SwiGLU); a SwiGLU's gate and value; its hub names."""


def adapter_targets(backbone: nn.Module, family: str) -> list[str]:
    """Paths of the layers that adapters change.

    Transformers: the projections of attention and both layers of the perceptron, as in the study
    (there by the names qkv, fc1, fc2, so that a SwiGLU under its hub names kept its perceptron
    frozen). Convolutional networks: every convolution without groups, and linear layers.

    Raises:
        TrainingError: the backbone has none.
    """
    if family == "cnn":
        names = [name for name, part in backbone.named_modules() if _is_plain(part)]
        names = [name for name in names if name.rsplit(".", 1)[-1] in FEED_FORWARD] or names
    else:
        names = [
            name
            for name, part in backbone.named_modules()
            if isinstance(part, nn.Linear)
            and name.rsplit(".", 1)[-1] in ATTENTION + FEED_FORWARD
            and not _is_bypassed(backbone, name)
        ]
    if not names:
        raise TrainingError(
            f"{type(backbone).__name__} has no layers that adapters are known for.",
            "Use --protocol finetune, bitfit or linear.",
        )
    return names


def _is_plain(part: nn.Module) -> bool:
    return isinstance(part, nn.Linear) or (isinstance(part, nn.Conv2d) and part.groups == 1)


def _is_bypassed(backbone: nn.Module, name: str) -> bool:
    """Attention that reads the joint weight itself and never calls the layer."""
    path, _, last = name.rpartition(".")
    attention = backbone.get_submodule(path)
    if last != "qkv" or getattr(attention, "q_bias", None) is None:
        return False
    return not getattr(attention, "qkv_bias_separate", False)


def call_projections(backbone: nn.Module) -> None:
    """Let timm's attention with separate biases (Eva, BEiT, DINOv3) call its joint projection.

    It then adds the biases afterwards, which gives the same numbers; by default it multiplies by
    the weight itself, and an adapter in the layer would never be run.
    """
    for part in backbone.modules():
        if getattr(part, "q_bias", None) is not None and hasattr(part, "qkv_bias_separate"):
            part.qkv_bias_separate = True  # type: ignore[assignment]
