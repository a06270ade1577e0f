"""Graphs of a tiny vision transformer, exported once per session."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

SIZE, DIM = 28, 32


@dataclass(frozen=True)
class StandIn:
    folder: Path
    precision: str = "fp32"
    manifest: dict[str, Any] = field(
        default_factory=lambda: {"recipe": {"name": "vit"}, "weights": {"sha256": "0" * 64}}
    )
    model: str = "tiny"
    weights_kind: str = "random"

    @property
    def path(self) -> Path:
        return self.folder / "model.onnx"

    @property
    def program_path(self) -> Path:
        return self.folder / "model.pt2"

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return (3, SIZE, SIZE)

    @property
    def outputs(self) -> dict[str, tuple[int, ...]]:
        return {"cls": (4, DIM), "patch_mean": (DIM,)}


def _export(precision: str, folder: Path) -> None:
    import timm.models.vision_transformer as vit
    import torch

    kind = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]

    class Wrapper(torch.nn.Module):
        def __init__(self, model: torch.nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            model = self.model
            x = model._pos_embed(model.patch_embed(pixel_values.to(kind)))
            kept = []
            for block in model.blocks:
                x = block(x)
                kept.append(model.norm(x).float())
            return torch.stack([k[:, 0] for k in kept], 1), kept[-1][:, 1:].mean(1)

    torch.manual_seed(0)
    model = vit.VisionTransformer(
        img_size=SIZE, patch_size=7, embed_dim=DIM, depth=4, num_heads=2, num_classes=0
    )
    wrapper = Wrapper(model.eval().to(kind))
    batch = torch.export.Dim("batch", min=1, max=4096)
    program = torch.export.export(
        wrapper, (torch.randn(2, 3, SIZE, SIZE),), dynamic_shapes=({0: batch},)
    )
    torch.export.save(program, str(folder / "model.pt2"))
    onnx_program = torch.onnx.export(
        program,
        opset_version=22,
        input_names=["pixel_values"],
        output_names=["cls", "patch_mean"],
        verbose=False,
    )
    onnx_program.save(str(folder / "model.onnx"))


@pytest.fixture(scope="session")
def graph_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Any]:
    """`graph_of("fp16")`: the tiny graph in a precision."""
    made: dict[str, StandIn] = {}

    def make(precision: str = "fp32") -> StandIn:
        if precision not in made:
            import warnings

            folder = tmp_path_factory.mktemp(f"graph_{precision}")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                _export(precision, folder)
            made[precision] = StandIn(folder, precision)
        return made[precision]

    return make
