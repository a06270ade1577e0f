"""Encoders and networks from scratch: tokens like the graph's, shapes, what trains and what not."""

from __future__ import annotations

import pytest
import torch

from dinorad_rt.backbones.load import load_backbone
from dinorad_rt.errors import ProtocolError, UnknownNameError
from dinorad_rt.export.graphs.build import traced_module
from dinorad_rt.export.recipe import load_recipe
from dinorad_rt.training.segmentation.baselines import NETWORKS, build_network
from dinorad_rt.training.segmentation.decoders import build_decoder
from dinorad_rt.training.segmentation.jobs import build_loss
from dinorad_rt.training.segmentation.model import PatchTokens, Segmenter, encoder_of
from dinorad_rt.training.segmentation.names import NETWORK_NAMES
from dinorad_rt.training.segmentation.transunet import TransUNet

SLOW = pytest.mark.slow
SMALL = {"unet": 4, "unet3d": 4, "segresnet": 8, "swinunetr": 12}


@pytest.mark.parametrize("model", ["test_vit", "deit_tiny_patch16_224"])
def test_encoder_gives_the_tokens_of_the_dense_graph(model: str) -> None:
    backbone = load_backbone(model, weights="random", image_size=96)
    pixels = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        recipe = load_recipe(backbone.spec.family)
        expected = traced_module(backbone, recipe, dense=True)(pixels)[-1]
        found = PatchTokens(backbone.module, expected.shape[1])(pixels)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_frozen_encoder_stays_and_trained_one_changes() -> None:
    pixels = torch.randn(2, 3, 32, 32)
    target = torch.randint(0, 3, (2, 1, 32, 32))
    for train in (False, True):
        torch.manual_seed(0)
        backbone = load_backbone("test_vit", weights="random", image_size=32)
        encoder = encoder_of(backbone.module, 1, trained=train)
        model = Segmenter(
            build_decoder("linear", dim=64, grid=2, classes=3, image_size=32), encoder
        )
        before = {name: value.clone() for name, value in model.state_dict().items()}
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
        for _ in range(2):
            optimizer.zero_grad()
            build_loss("dice-ce")(model(pixels), target).backward()
            optimizer.step()
        changed = {n for n, value in model.state_dict().items() if not value.equal(before[n])}
        assert any(name.startswith("decoder.") for name in changed)
        assert any(name.startswith("encoder.") for name in changed) == train


def test_convolutional_backbones_have_no_tokens() -> None:
    backbone = load_backbone("test_resnet", weights="random")
    with pytest.raises(ProtocolError, match="no blocks of patch tokens"):
        PatchTokens(backbone.module, 1)


@pytest.mark.parametrize(
    "name", [*(n for n in SMALL if n != "swinunetr"), pytest.param("swinunetr", marks=SLOW)]
)
def test_networks_from_scratch_learn_a_batch(name: str) -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]
    module = build_network(name, classes=2, size=32, width=SMALL[name])
    deep = 64 if name == "swinunetr" else 32
    shape = (2, 3, 32, 32) if network.dims == 2 else (1, 1, 32, 32, deep)
    inputs = torch.rand(shape)
    target = (inputs[:, :1] > 0.7).long()
    optimizer = torch.optim.AdamW(module.parameters(), lr=5e-3)
    losses = []
    for _ in range(2 if name == "swinunetr" else 4):
        logits = module(inputs)
        assert logits.shape == (shape[0], 2, *shape[2:])
        loss = build_loss("dice-ce")(logits, target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_transunet_learns_and_every_part_gets_a_gradient() -> None:
    torch.manual_seed(0)
    module = TransUNet(3, 32, dim=64, depth=1, heads=1)
    logits = module(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 3, 32, 32)
    build_loss("dice")(logits, torch.randint(0, 3, (2, 1, 32, 32))).backward()
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_unet_has_the_widths_of_the_original() -> None:
    module = build_network("unet", classes=2, size=32)
    widths = [m.out_channels for m in module.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {64, 128, 256, 512, 1024} <= set(widths)
    assert any(isinstance(m, torch.nn.ConvTranspose2d) for m in module.modules())


def test_losses_are_monais() -> None:
    from monai.losses import DiceCELoss, DiceLoss

    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 1, 8, 8))
    for name, theirs in (("dice", DiceLoss), ("dice-ce", DiceCELoss)):
        expected = theirs(softmax=True, to_onehot_y=True)(logits, target)
        assert torch.equal(build_loss(name)(logits, target), expected)
    pooled = DiceLoss(softmax=True, to_onehot_y=True, batch=True)(logits, target)
    assert torch.equal(build_loss("dice", pooled=True)(logits, target), pooled)


def test_what_does_not_fit_is_refused() -> None:
    assert tuple(NETWORKS) == NETWORK_NAMES
    with pytest.raises(UnknownNameError, match="unet3d"):
        build_network("unet3", classes=2, size=32)
    with pytest.raises(ProtocolError, match="multiple of 12"):
        build_network("swinunetr", classes=2, width=16)
    with pytest.raises(ProtocolError, match="multiples of 16; 100 is"):
        build_network("unet", classes=2, size=100)
