"""The merging convolution of an up-block by a shorter way. Imported late: it needs torch.

As written, an up-block doubles its map, resizes the skip to it, concatenates both and convolves at
full size. Both halves are linear up to the convolution, so the same sums come out with less work:

    the map    2x2 transposed convolution, then 3x3 = one 4x4 transposed convolution at stride 2,
               where the map is large enough for that
    the skip   its nine taps mixed on the small grid, then resized and shifted in one matrix product

Neither the resized skip nor a concatenation is ever stored. Parameters and gradients are the same:
in float64 to rounding, in float32 as close to it as the long way.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from dinorad_rt.training.segmentation.resample import Resample


def shorter_is_worth_it(x: torch.Tensor, *, training: bool) -> bool:
    """Whether a map shall go the shorter way: training in float32 on a CPU, where it was measured.

    Exported graphs keep the layers as written; lower precision would round composed weights.
    """
    on_cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    return training and on_cpu and not torch.is_autocast_enabled("cpu")


def merged(
    x: torch.Tensor,
    skip: torch.Tensor,
    up: nn.ConvTranspose2d,
    conv: nn.Conv2d,
    resize: Resample,
) -> torch.Tensor:
    """`conv(cat([up(x), resize(skip)]))`.

    Args:
        x: (batch, incoming, h, h).
        skip: (batch, outgoing, grid, grid).
        up: 2x2 at stride 2, with bias.
        conv: 3x3 with padding 1, from 2 * outgoing, with bias.
        resize: grid → 2h.

    Returns:
        (batch, outgoing, 2h, 2h).
    """
    if up.bias is None or conv.bias is None:
        raise AssertionError("up-blocks have biases")
    weights = conv.weight.split(conv.out_channels, dim=1)
    # A constant resized is that constant, so the biases go with the skip's taps.
    bias = torch.einsum("omyx,m->oyx", weights[0], up.bias)
    bias = bias + F.pad(conv.bias[:, None, None], (1, 1, 1, 1))
    resized = _resized_taps(skip, weights[1], bias, resize)
    if not _composing_pays(x, conv.out_channels):
        doubled = F.conv_transpose2d(x, up.weight, stride=2)
        return F.conv2d(doubled, weights[0], padding=1) + resized
    kernel = F.conv_transpose2d(up.weight, weights[0].transpose(0, 1).flip(2, 3).contiguous())
    return F.conv_transpose2d(x, kernel.contiguous(), stride=2, padding=1) + resized


def _composing_pays(x: torch.Tensor, outgoing: int) -> bool:
    """Whether one convolution saves more products than composing its kernel costs.

    36 outgoing² for each incoming channel against 6 outgoing for each channel of each pixel.
    """
    batch, _, height, width = x.shape
    return batch * height * width > 6 * outgoing


def _resized_taps(
    skip: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, resize: Resample
) -> torch.Tensor:
    """`conv2d(resize(skip), weight, padding=1)` with a bias (outgoing, 3, 3) for each tap."""
    batch, width, side, _ = skip.shape
    rows = len(weight)
    mixed = torch.matmul(weight.permute(0, 2, 3, 1).reshape(9 * rows, width), skip.flatten(2))
    taps = (mixed + bias.reshape(-1, 1)).view(batch, rows, 3, 3, side, side)
    taps = taps.permute(0, 1, 2, 4, 3, 5).reshape(batch * rows * 3 * side, 3 * side)
    matrix = _shifted(resize.get_buffer("rows"))
    across = torch.mm(taps, matrix.T).view(batch * rows, 3 * side, -1)
    return torch.matmul(matrix, across).view(batch, rows, len(matrix), len(matrix))


def _shifted(matrix: torch.Tensor) -> torch.Tensor:
    """Resizing (target, source), seen from one pixel before, from here and from one behind."""
    before, behind = F.pad(matrix, (0, 0, 1, 0))[:-1], F.pad(matrix, (0, 0, 0, 1))[1:]
    return torch.cat([before, matrix, behind], dim=1)
