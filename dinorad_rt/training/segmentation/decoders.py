"""Decoders: patch tokens of a vision transformer → class logits per pixel. Needs torch.

`LinearDecoder` and `UNetDecoder` are those of the study (PROTOCOLS.md 2.7). The U-Net comes in two
forms: `as_coded` with what looks like oversights in the study's code kept (logits behind batch norm
and ReLU, so none is negative; corners aligned; a bicubic last step), and mended, the default.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from dinorad_rt.errors import ProtocolError, unknown_name
from dinorad_rt.training.segmentation.names import DECODERS
from dinorad_rt.training.segmentation.resample import Resample
from dinorad_rt.training.segmentation.shorter_merge import merged, shorter_is_worth_it

PATCH_BLOCKS: dict[str, int] = {"linear": 1, "unet": 5, "unet-as-coded": 5}
"""Last blocks whose patch tokens each decoder reads."""

LINEAR_STD = 0.01
_LAST_WIDTH = 16


def build_decoder(
    name: str, *, dim: int, grid: int, classes: int, image_size: int
) -> LinearDecoder | UNetDecoder:
    """A decoder by name, with fresh weights from torch's global generator.

    Args:
        name: one of `DECODERS`.
        dim: size of a patch token.
        grid: patches per side.
        classes: with the background.
        image_size: side of the logits in pixels.

    Raises:
        UnknownNameError: no such decoder.
    """
    if name not in DECODERS:
        raise unknown_name("decoder", name, DECODERS, "dinorad-rt train --help")
    if name == "linear":
        return LinearDecoder(dim, grid, classes, image_size)
    return UNetDecoder(dim, grid, classes, image_size, as_coded=name == "unet-as-coded")


class Candidates(nn.Module):
    """Several decoders on the same tokens, one for each learning rate of a search.

    Args:
        members: decoders.
        rates: learning rate of each.
    """

    def __init__(self, members: Sequence[nn.Module], rates: Sequence[float]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.rates = tuple(rates)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, blocks, N, dim) → logits (members, batch, classes, H, W)."""
        return torch.stack([member(tokens) for member in self.members])


class LinearDecoder(nn.Module):
    """A 1x1 convolution on the last block's patch tokens, then bilinear resizing.

    Args:
        dim, grid, classes, image_size: see `build_decoder`.
    """

    def __init__(self, dim: int, grid: int, classes: int, image_size: int) -> None:
        super().__init__()
        self.grid = grid
        self.head = nn.Conv2d(dim, classes, 1)
        nn.init.normal_(self.head.weight, std=LINEAR_STD)
        nn.init.zeros_(_bias(self.head))
        self.resize = Resample(grid, image_size)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, blocks, N, dim), last block last → logits (batch, classes, H, W)."""
        logits: torch.Tensor = self.resize(self.head(as_map(tokens[:, -1], self.grid)))
        return logits


class UNetDecoder(nn.Module):
    """Four up-blocks from the last block's tokens, with the four blocks before it as skips.

    Args:
        dim, grid, classes, image_size: see `build_decoder`.
        as_coded: keep the study's oddities.
    """

    def __init__(
        self, dim: int, grid: int, classes: int, image_size: int, *, as_coded: bool = False
    ) -> None:
        super().__init__()
        self.grid = grid
        last = classes if as_coded else max(dim // 16, _LAST_WIDTH)
        widths = (dim, dim // 2, dim // 4, dim // 8, last)
        sides = [grid * 2**step for step in range(1, 5)]
        self.blocks = nn.ModuleList(
            UpBlock(dim, incoming, outgoing, Resample(grid, side, align_corners=as_coded))
            for incoming, outgoing, side in zip(widths[:-1], widths[1:], sides, strict=True)
        )
        self.head: nn.Module = nn.Identity() if as_coded else nn.Conv2d(last, classes, 1)
        self.resize = Resample(sides[-1], image_size, mode="bicubic" if as_coded else "bilinear")

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """(batch, 5, N, dim), last block last → logits (batch, classes, H, W)."""
        if tokens.shape[1] != len(self.blocks) + 1:
            raise ProtocolError(
                f"The U-Net decoder reads the last {len(self.blocks) + 1} blocks; the backbone "
                f"gives {tokens.shape[1]}.",
                "Use --decoder linear, which reads the last block only.",
            )
        x = as_map(tokens[:, -1], self.grid)
        for depth, block in enumerate(self.blocks):
            x = block(x, as_map(tokens[:, -2 - depth], self.grid))
        logits: torch.Tensor = self.resize(self.head(x))
        return logits


class UpBlock(nn.Module):
    """Transposed convolution to twice the side, the resized skip beside it, one convolution."""

    def __init__(self, dim: int, incoming: int, outgoing: int, resize: Resample) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(incoming, outgoing, 2, stride=2)
        self.skip = _conv(dim, outgoing)
        self.resize = resize
        self.merge = _conv(2 * outgoing, outgoing)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(batch, incoming, h, h) and (batch, dim, grid, grid) → (batch, outgoing, 2h, 2h)."""
        conv, after = self.merge[0], self.merge[1:]
        skip = self.skip(skip)
        if shorter_is_worth_it(x, training=self.training):
            mixed = merged(x, skip, self.up, conv, self.resize)  # type: ignore[arg-type]
        else:
            mixed = conv(torch.cat([self.up(x), self.resize(skip)], dim=1))
        found: torch.Tensor = after(mixed)
        return found


def as_map(tokens: torch.Tensor, grid: int) -> torch.Tensor:
    """Patch tokens (batch, N, dim) as a map (batch, dim, grid, grid)."""
    maps = tokens.transpose(1, 2).reshape(tokens.shape[0], tokens.shape[2], grid, grid)
    return maps.contiguous()


def _conv(incoming: int, outgoing: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(incoming, outgoing, 3, padding=1), nn.BatchNorm2d(outgoing), nn.ReLU(inplace=True)
    )


def _bias(layer: nn.Conv2d) -> torch.Tensor:
    if layer.bias is None:
        raise AssertionError("the linear decoder has a bias")
    return layer.bias
