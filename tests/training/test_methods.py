"""Each method: what it changes, what it leaves alone, and that it trains at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from dinorad_rt.errors import TrainingError
from dinorad_rt.training.classifier import Classifier, HeadSpec
from dinorad_rt.training.methods import (
    ADAPTERS,
    Method,
    apply_method,
    hold_statistics,
    merge_adapters,
    parameter_groups,
    save_adapter,
)
from dinorad_rt.training.presets import classify_preset
from dinorad_rt.training.targets import adapter_targets, call_projections

SIZE = 32
NETWORKS = [("test_vit", 160), ("test_resnet", 64), ("test_convnext", 64)]


def model_of(backbone: Any, method: Method) -> tuple[Classifier, Any]:
    torch.manual_seed(0)
    model = Classifier(backbone, HeadSpec(), classes=3)
    return model, apply_method(backbone.module, backbone.spec.family, method)


def train(model: Classifier, method: Method, size: int, steps: int = 12) -> list[float]:
    """A few steps on one batch; the losses."""
    torch.manual_seed(1)
    pixels, labels = torch.randn(6, 3, size, size), torch.arange(6) % 3
    optimizer = torch.optim.AdamW(
        [{**g, "lr": 3e-3 * g["lr_scale"]} for g in _groups(model, method)]
    )
    losses = []
    for _ in range(steps):
        model.train()
        hold_statistics(model.backbone, method)
        loss = torch.nn.functional.cross_entropy(model(pixels), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def _groups(model: Classifier, method: Method) -> list[dict[str, Any]]:
    groups = parameter_groups(model.backbone, model.head, method, 0.01)
    return [dict(group) for group in groups]


def snapshot(model: Classifier) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def changed(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> set[str]:
    return {name for name in before if not torch.equal(before[name], after[name])}


@pytest.mark.parametrize(("name", "size"), NETWORKS)
@pytest.mark.parametrize("protocol", ["finetune", "lora", "bitfit", "linear"])
def test_what_changes_and_what_does_not(
    protocol: Any, name: str, size: int, backbone_of: Any
) -> None:
    method = Method(protocol=protocol, rank=4)
    model, _ = model_of(backbone_of(name, size), method)
    before = snapshot(model)
    losses = train(model, method, size)
    moved = changed(before, snapshot(model))
    parameters = {n for n, _ in model.named_parameters()}
    buffers = set(before) - parameters
    assert losses[-1] < losses[0]
    assert {"head.weight", "head.bias"} <= moved
    backbone = {n for n in moved if n.startswith("backbone.")}
    if protocol == "finetune":
        assert backbone >= {n for n in parameters if n.startswith("backbone.")}
    elif protocol == "lora":
        adapters = {n for n in parameters if ".lora_" in n}
        assert adapters and backbone == adapters
    elif protocol == "bitfit":
        assert backbone == {n for n in parameters if n.startswith("backbone.") and "bias" in n}
    else:
        assert not backbone
    if protocol != "finetune":
        assert not moved & buffers, "statistics of a frozen backbone"


def test_bitfit_of_the_study_is_every_name_with_bias(backbone_of: Any) -> None:
    backbone = backbone_of("vits14", 28)
    apply_method(backbone.module, "vit", Method(protocol="bitfit"))
    trained = {n for n, p in backbone.module.named_parameters() if p.requires_grad}
    assert trained == {n for n, _ in backbone.module.named_parameters() if "bias" in n}


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_merged_is_unmerged(adapter: Any, name: str, size: int, backbone_of: Any) -> None:
    method = Method(protocol="lora", adapter=adapter, rank=4, dropout=0.1, adapter_bias=True)
    model, _ = model_of(backbone_of(name, size), method)
    fresh = model.eval()(torch.ones(1, 3, size, size)).detach()
    losses = train(model, method, size)
    assert losses[-1] < losses[0]
    pixels = torch.randn(4, 3, size, size)
    model.eval()
    with torch.no_grad():
        apart = model(pixels)
        merge_adapters(model)
        merged = model(pixels)
    assert not any("lora" in n or "lokr" in n or "hada" in n for n, _ in model.named_parameters())
    assert (model(torch.ones(1, 3, size, size)) - fresh).abs().max() > 1e-3
    scale = apart.abs().max()
    torch.testing.assert_close(merged / scale, apart / scale, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["vits14", "vitg14", "dinov3_s16"])
def test_targets_are_attention_and_perceptron(name: str) -> None:
    from dinorad_rt.backbones.load import build_module
    from dinorad_rt.backbones.registry import get_spec

    spec = get_spec(name)
    module: Any = build_module(spec, spec.patch * 2, meta=True)
    call_projections(module)
    found = adapter_targets(module, spec.family)
    per_block = len(found) / len(module.blocks)
    kinds = {target.rsplit(".", 1)[-1] for target in found}
    assert per_block == 3, "qkv and both layers of the perceptron, SwiGLU too"
    assert kinds == {"qkv", "fc1", "fc2"}


@pytest.mark.parametrize("name", ["beit_base_patch16_224", "vit_small_patch16_dinov3_qkvb"])
def test_adapters_reach_projections_with_separate_biases(name: str) -> None:
    """timm multiplies by the joint weight itself there, and would never run an adapter in it."""
    import timm

    torch.manual_seed(0)
    module = timm.create_model(name, num_classes=0, depth=1, img_size=32).eval()
    assert adapter_targets(module, "eva") == ["blocks.0.mlp.fc1", "blocks.0.mlp.fc2"]
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        before = module(pixels)
    apply_method(module, "eva", Method(protocol="lora", rank=4))
    found = module(pixels)
    torch.testing.assert_close(found, before)
    found.square().sum().backward()
    touched = {n for n, p in module.named_parameters() if p.grad is not None and p.grad.any()}
    assert any("qkv.lora_B" in name for name in touched)


def test_adapters_are_saved_in_pefts_own_format(backbone_of: Any, tmp_path: Path) -> None:
    from peft import PeftModel

    method = Method(protocol="lora", rank=4)
    model, adapted = model_of(backbone_of("test_vit", 160), method)
    train(model, method, 160, steps=3)
    save_adapter(adapted, tmp_path / "adapter")
    assert {p.name for p in (tmp_path / "adapter").iterdir()} == {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    fresh = backbone_of("test_vit", 160).module
    loaded = PeftModel.from_pretrained(fresh, str(tmp_path / "adapter"))
    pixels = torch.randn(2, 3, 160, 160)
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded.eval()(pixels), model.backbone(pixels))


def test_adapters_are_replaced_whole_with_the_same_bytes(tmp_path: Path) -> None:
    class Adapted:
        """What peft writes, with the order of its targets as this process's sets have it."""

        order = ("qkv", "fc1", "proj")

        def save_pretrained(self, folder: str) -> None:
            (Path(folder) / "README.md").touch()
            facts = {"r": 4, "target_modules": list(self.order)}
            (Path(folder) / "adapter_config.json").write_text(json.dumps(facts))
            if not self.order:
                raise KeyboardInterrupt

    first, folder = Adapted(), tmp_path / "adapter"
    save_adapter(first, folder)
    kept = (folder / "adapter_config.json").read_bytes()
    first.order = ("proj", "qkv", "fc1")
    save_adapter(first, folder)
    assert (folder / "adapter_config.json").read_bytes() == kept
    first.order = ()
    with pytest.raises(KeyboardInterrupt):
        save_adapter(first, folder)
    assert [path.name for path in tmp_path.rglob("*")] == ["adapter", "adapter_config.json"]
    assert (folder / "adapter_config.json").read_bytes() == kept


def test_layers_far_from_the_head_learn_slower(backbone_of: Any) -> None:
    method = Method(protocol="finetune", layer_decay=0.5, head_lr_scale=10.0)
    model, _ = model_of(backbone_of("test_vit", 160), method)
    groups = parameter_groups(model.backbone, model.head, method, 0.05)
    scale = {id(p): g["lr_scale"] for g in groups for p in g["params"]}
    names = dict(model.named_parameters())
    first, last = (scale[id(names[f"backbone.blocks.{i}.attn.qkv.weight"])] for i in (0, 5))
    assert first == pytest.approx(last * 0.5**5)
    assert scale[id(names["head.weight"])] == 10.0
    decay = {id(p): g["weight_decay"] for g in groups for p in g["params"]}
    assert decay[id(names["backbone.blocks.0.attn.qkv.bias"])] == 0.0
    assert decay[id(names["head.bias"])] == 0.0 and decay[id(names["head.weight"])] == 0.05
    assert len(scale) == len(names)


@pytest.mark.parametrize(
    ("name", "value"),
    [("alpha", 0.0), ("head_lr_scale", -5.0), ("rank", 0), ("dropout", 1.0), ("layer_decay", 0.0)],
)
def test_numbers_that_train_nothing_or_uphill_are_refused(name: str, value: float) -> None:
    with pytest.raises(TrainingError, match=f"{name} is {value}"):
        classify_preset("lora").changed(**{name: value})


def test_a_head_of_several_blocks_needs_blocks(backbone_of: Any) -> None:
    with pytest.raises(TrainingError, match="to see 4 blocks; test_resnet has 1"):
        Classifier(backbone_of("test_resnet"), HeadSpec(blocks=4), classes=2)


def test_the_study_preset_has_the_studys_numbers() -> None:
    """PROTOCOLS.md 2.3, 2.5, 2.6 and 1.3."""
    recipe = classify_preset("lora", "study")
    method, settings = recipe.method, recipe.settings
    assert (method.rank, method.alpha, method.dropout) == (48, 16.0, 0.1)
    assert method.adapter_bias and method.adapter == "lora"
    assert (settings.optimizer, settings.momentum, settings.weight_decay) == ("sgd", 0.9, 0.0)
    assert (settings.schedule, settings.warmup, settings.ema) == ("cosine", 0.0, None)
    assert (settings.epochs, settings.batch_size) == (10, 128)
    assert recipe.augmentation == "study" and not recipe.class_weights
    assert classify_preset("finetune", "study").settings.lr in (1e-5, 1e-6, 1e-7)
    for protocol in ("lora", "bitfit", "finetune", "linear"):
        found = classify_preset(protocol, "study")  # type: ignore[arg-type]
        head = found.settings.lr * found.method.head_lr_scale
        assert any(head == pytest.approx(rate) for rate in (1e-3, 5e-3, 1e-2, 5e-2))
