"""Decoders against torch's own layers, and the study's oddities where they are asked for."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F

from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.training.segmentation import decoders, shorter_merge
from dinorad_rt.training.segmentation.decoders import (
    PATCH_BLOCKS,
    LinearDecoder,
    UNetDecoder,
    as_map,
    build_decoder,
)
from dinorad_rt.training.segmentation.names import DECODERS
from dinorad_rt.training.segmentation.resample import Mode, Resample
from dinorad_rt.training.segmentation.shorter_merge import shorter_is_worth_it


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("sides", [(7, 20), (16, 16), (24, 10)])
def test_resample_is_torchs_interpolate(mode: Mode, align: bool, sides: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, sides[0], sides[0])
    expected = F.interpolate(maps, size=(sides[1], sides[1]), mode=mode, align_corners=align)
    found = Resample(*sides, mode=mode, align_corners=align)(maps)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("name", DECODERS)
@pytest.mark.parametrize("size", [56, 112])
def test_decoders_give_logits_of_the_image_size(name: str, size: int) -> None:
    decoder = build_decoder(name, dim=32, grid=4, classes=3, image_size=size)
    assert decoder(torch.randn(2, PATCH_BLOCKS[name], 16, 32)).shape == (2, 3, size, size)


def test_linear_decoder_is_a_convolution_and_bilinear_resizing() -> None:
    torch.manual_seed(0)
    decoder = LinearDecoder(512, 5, 4, 70)
    tokens = torch.randn(2, 5, 25, 512)
    weight, bias = decoder.head.weight.detach(), decoder.head.bias
    assert float(weight.std()) == pytest.approx(0.01, rel=0.1)
    assert bias is not None and not bias.any()
    logits = torch.einsum("bnd,cd->bcn", tokens[:, -1], weight[:, :, 0, 0]).reshape(2, 4, 5, 5)
    expected = F.interpolate(logits, size=(70, 70), mode="bilinear")
    torch.testing.assert_close(decoder(tokens), expected, atol=1e-5, rtol=1e-4)


def test_tokens_lie_on_the_map_row_by_row() -> None:
    tokens = torch.arange(6.0).reshape(1, 6, 1).expand(1, 6, 2)[:, :4]
    assert as_map(tokens, 2)[0, 0].tolist() == [[0, 1], [2, 3]]


def test_as_coded_has_no_negative_logits_before_the_last_resize_and_the_mended_one_has() -> None:
    torch.manual_seed(0)
    tokens = torch.randn(2, 5, 16, 32)
    coded = UNetDecoder(32, 4, 3, 64, as_coded=True)
    mended = UNetDecoder(32, 4, 3, 64)
    assert coded(tokens).min() >= 0  # 64 = 16 x 4, so nothing is resized
    assert (coded(tokens) == 0).any(), "a ReLU stands behind the logits"
    assert mended(tokens).min() < 0


def test_unet_channels_halve_as_in_the_study() -> None:
    decoder = UNetDecoder(64, 4, 3, 64, as_coded=True)
    assert [block.up.out_channels for block in decoder.blocks] == [32, 16, 8, 3]
    mended = UNetDecoder(64, 4, 3, 64)
    assert [block.up.out_channels for block in mended.blocks] == [32, 16, 8, 16]


def test_every_block_of_tokens_reaches_the_logits() -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(32, 4, 3, 64).eval()
    tokens = torch.randn(1, 5, 16, 32, requires_grad=True)
    decoder(tokens).square().sum().backward()
    assert tokens.grad is not None
    assert (tokens.grad.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("coded", [False, True])
@pytest.mark.parametrize("size", [64, 50])
@pytest.mark.parametrize("composed", [False, True])
def test_the_shorter_way_is_the_layers_as_written(
    coded: bool, size: int, composed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    shorter = UNetDecoder(32, 4, 3, size, as_coded=coded).double()
    for module in shorter.modules():
        if isinstance(module, Resample):  # its float32 weights add up to 1 ± 6e-8
            rows = module.get_buffer("rows")
            module.rows = rows / rows.sum(dim=1, keepdim=True)
            module.columns = module.rows.T.contiguous()
    written = copy.deepcopy(shorter)
    tokens = torch.randn(3, 5, 16, 32, dtype=torch.float64)
    others = tokens.clone().requires_grad_(True)
    monkeypatch.setattr(shorter_merge, "_composing_pays", lambda *_: composed)
    tokens.requires_grad_(True)
    found = shorter(tokens)
    found.square().sum().backward()
    monkeypatch.setattr(decoders, "shorter_is_worth_it", lambda *_, **__: False)
    monkeypatch.setattr(decoders, "merged", None)
    expected = written(others)
    expected.square().sum().backward()
    close = {"atol": 1e-10, "rtol": 1e-10}
    torch.testing.assert_close(found, expected, **close)
    torch.testing.assert_close(tokens.grad, others.grad, **close)
    for (name, mine), theirs in zip(shorter.named_parameters(), written.parameters(), strict=True):
        assert mine.grad is not None and theirs.grad is not None, name
        torch.testing.assert_close(mine.grad, theirs.grad, **close, msg=name)
    for mine, theirs in zip(shorter.buffers(), written.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, **close)


def test_kernels_are_composed_where_that_saves_work() -> None:
    small, large = torch.zeros(2, 1024, 16, 16), torch.zeros(2, 512, 32, 32)
    assert not shorter_merge._composing_pays(small, 512)
    assert shorter_merge._composing_pays(large, 256)


def test_the_shorter_way_is_for_training_in_full_precision() -> None:
    x = torch.zeros(1)
    assert shorter_is_worth_it(x, training=True)
    assert not shorter_is_worth_it(x, training=False), "graphs are exported as written"
    assert not shorter_is_worth_it(x.bfloat16(), training=True)
    with torch.autocast("cpu", torch.bfloat16):
        assert not shorter_is_worth_it(x, training=True)


def test_float32_is_no_less_exact_by_the_shorter_way(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    decoder = UNetDecoder(96, 7, 2, 112)
    tokens = torch.randn(2, 5, 49, 96)
    exact = copy.deepcopy(decoder).double()(tokens.double())
    errors = []
    for way in (True, False):
        monkeypatch.setattr(decoders, "shorter_is_worth_it", lambda *_, way=way, **__: way)
        found = copy.deepcopy(decoder)(tokens).detach()
        errors.append(float((found - exact.detach()).abs().max()))
    assert errors[0] < max(2 * errors[1], 1e-5)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ProtocolError, match="the last 5 blocks"):
        UNetDecoder(32, 4, 3, 64)(torch.randn(1, 4, 16, 32))
    with pytest.raises(UnknownNameError, match="linear"):
        build_decoder("linaer", dim=32, grid=4, classes=3, image_size=64)
