"""Shapes as types. jaxtyping checks them while the tests run.

Axis names: `batch` images, `height width` pixels, `tokens` patch tokens, `dim` embedding size,
`blocks` transformer blocks, `samples` rows of a dataset, `classes` labels.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np
from jaxtyping import Bool, Float, Int

PixelValues: TypeAlias = Float[np.ndarray, "batch 3 height width"]
"""Normalised network input, float32."""

Embeddings: TypeAlias = Float[np.ndarray, "samples dim"]
Scores: TypeAlias = Float[np.ndarray, "samples classes"]
ClassIndices: TypeAlias = Int[np.ndarray, " samples"]
MultiHot: TypeAlias = Int[np.ndarray, "samples classes"]
Mask: TypeAlias = Bool[np.ndarray, "..."]

Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "mixed", "int8"]
Split: TypeAlias = Literal["train", "val", "test"]
Task: TypeAlias = Literal["binary", "multiclass", "multilabel", "segmentation"]

PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "mixed", "int8")
SPLITS: tuple[Split, ...] = ("train", "val", "test")
