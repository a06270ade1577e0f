"""Networks that are trained from scratch: what a frozen or tuned backbone has to beat.

    unet       2-D, MONAI's BasicUNet at the widths of the original (64 to 1024, deconvolutions,
               batch norm, ReLU)
    transunet  2-D, on timm's parts: see `transunet`
    unet3d     MONAI's residual UNet
    segresnet  MONAI's SegResNet
    swinunetr  MONAI's SwinUNETR

2-D networks take slices of (batch, 3, size, size), 3-D networks patches of (batch, 1, slices,
height, width). Imported late: building needs torch, MONAI and timm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.optional import require

if TYPE_CHECKING:
    from torch import nn

_PURPOSE = "training a segmentation network from scratch"


@dataclass(frozen=True)
class Network:
    """One architecture.

    Attributes:
        name: after --model.
        dims: 2 for slices, 3 for patches of volumes.
        width: features of the first level, unless the user says another.
        width_step: the width is a multiple of it.
        side_step: sides of the input are multiples of it.
        family: recipe by which it is exported.
        build: (classes, size, width) → module; size is the side of the slice (2-D only).
    """

    name: str
    dims: Literal[2, 3]
    width: int
    width_step: int
    side_step: int
    family: str
    build: Callable[[int, int, int], nn.Module]


def network_named(name: str) -> Network:
    """Raises: UnknownNameError."""
    if name not in NETWORKS:
        raise unknown_name("network", name, NETWORKS, "dinorad-rt train --help")
    return NETWORKS[name]


def build_network(name: str, *, classes: int, size: int = 0, width: int | None = None) -> nn.Module:
    """A network with fresh weights from torch's global generator.

    Args:
        name: one of `NETWORKS`.
        classes: with the background.
        size: side of the input slice in pixels; of no meaning in 3-D.
        width: features of the first level; None for the usual number.

    Raises:
        UnknownNameError: no such network.
        ProtocolError: a width or size that the network cannot take.
        MissingPackageError: MONAI is not installed.
    """
    network = network_named(name)
    width = network.width if width is None else width
    if width < network.width_step or width % network.width_step:
        raise ProtocolError(
            f"{name} cannot have {width} features.",
            f"Use a multiple of {network.width_step}; usual: {network.width}.",
        )
    check_side(network, size)
    return network.build(classes, size, width)


def check_side(network: Network, side: int) -> None:
    """Refuse a side that the network cannot halve often enough.

    Raises:
        ProtocolError: naming the step.
    """
    if side % network.side_step:
        raise ProtocolError(
            f"{network.name} takes sides that are multiples of {network.side_step}; {side} is "
            "none.",
            f"Use {max(1, round(side / network.side_step)) * network.side_step}.",
        )


def check_patch(network: Network, patch: Sequence[int]) -> None:
    """Refuse a patch that a 3-D network cannot halve, or would halve to a single voxel.

    Raises:
        ProtocolError: naming the step.
    """
    for side in patch:
        check_side(network, side)
    if all(side == network.side_step for side in patch):
        raise ProtocolError(
            f"{network.name} would shrink a patch of {' x '.join(map(str, patch))} to a single "
            "voxel, which cannot be normalised.",
            f"Make at least one side {2 * network.side_step}.",
        )


def _unet(classes: int, size: int, width: int) -> nn.Module:
    features = (width, 2 * width, 4 * width, 8 * width, 16 * width, width)
    return _monai(
        "BasicUNet",
        spatial_dims=2,
        in_channels=3,
        out_channels=classes,
        features=features,
        act=("RELU", {"inplace": True}),
        norm="batch",
        upsample="deconv",
    )


def _transunet(classes: int, size: int, width: int) -> nn.Module:
    from dinorad_rt.training.segmentation.transunet import TransUNet

    depth = 24 if width >= 1024 else 12
    return TransUNet(classes, size, dim=width, depth=depth, heads=width // 64)


def _unet3d(classes: int, size: int, width: int) -> nn.Module:
    return _monai(
        "UNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        channels=tuple(width * 2**level for level in range(5)),
        strides=(2, 2, 2, 2),
        num_res_units=2,
    )


def _segresnet(classes: int, size: int, width: int) -> nn.Module:
    return _monai(
        "SegResNet",
        spatial_dims=3,
        in_channels=1,
        out_channels=classes,
        init_filters=width,
        blocks_down=(1, 2, 2, 4),
        blocks_up=(1, 1, 1),
    )


def _swinunetr(classes: int, size: int, width: int) -> nn.Module:
    return _monai(
        "SwinUNETR", spatial_dims=3, in_channels=1, out_channels=classes, feature_size=width
    )


def _monai(name: str, **options: Any) -> nn.Module:
    module: nn.Module = getattr(require("monai.networks.nets", _PURPOSE), name)(**options)
    return module


NETWORKS: dict[str, Network] = {
    network.name: network
    for network in (
        Network("unet", 2, 64, 1, 16, "cnn", _unet),
        Network("transunet", 2, 768, 64, 16, "cnn", _transunet),
        Network("unet3d", 3, 16, 1, 16, "volume", _unet3d),
        Network("segresnet", 3, 16, 8, 8, "volume", _segresnet),
        Network("swinunetr", 3, 24, 12, 32, "windows3d", _swinunetr),
    )
}
