"""Published speeds of others, for orientation: other machines, other harnesses.

Read from the named sources in November 2026; the share of the peak is images/s × 2 × GMAC over the
card's dense FP16 tensor peak with FP32 accumulation, estimated by us, where the source gives none.
"""

from __future__ import annotations

from typing import Any

TIMM = "huggingface/pytorch-image-models, results/benchmark-infer-*.csv (AMP)"
FASTER = "NVIDIA FasterTransformer, ViT guide (CUDA 11.4)"
DEPTH = "spacewalk01/depth-anything-tensorrt (TensorRT 10, with pre- and post-processing)"
LIGHTLY = "LightlyTrain documentation"
ROBOFLOW = "roboflow inference documentation (end to end)"

Figure = tuple[str, str, str, str, str, float | None, str]
"""Source, device, how, model and size, batch, images/s, share of the peak."""

_TIMM_MODELS = (
    *("ViT-S/16 @224", "ViT-B/16 @224", "ViT-L/16 @224"),
    *("DINOv2 S/14 @518", "DINOv2 B/14 @518", "DINOv2 L/14 @518", "DINOv2 g/14 @518"),
)
_TIMM_GPU: tuple[tuple[str, str, tuple[float | None, ...], tuple[int | None, ...]], ...] = (
    (
        "RTX 4090",
        "torch.compile",
        (9948, 3376, 1036, 1154, 416, 133.1, 40.0),
        (56, 72, 77, 65, 76, 82, 86),
    ),
    (
        "RTX 4090",
        "eager",
        (8215, 2993, 954, 895, 350, 108, 33.1),
        (46, 64, 71, 51, 64, 66, 71),
    ),
    (
        "RTX 5090",
        "torch.compile",
        (13439, 4379, 1339, 1544, 534, None, None),
        (59, 73, 79, 69, 77, None, None),
    ),
    (
        "RTX PRO 6000 Max-Q",
        "torch.compile, BF16",
        (14622, 5059, 1604, 1702, 619, None, None),
        (None,) * 7,
    ),
    (
        "RTX 3090",
        "eager",
        (4585, 1571, 487, 488, 182, 58.8, 17.7),
        (59, 78, 84, 64, 78, 84, 89),
    ),
)
_TIMM_CPU: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("Core i9-10940X", (76.5, 32.4, 7.04, 11.9, 4.52, 1.50, 0.46)),
    ("Core i7-12700H", (26.7, 8.33, 2.26, 3.21, 1.05, 0.30, 0.10)),
)
_OTHERS: tuple[Figure, ...] = (
    (TIMM, "RTX 4090", "torch.compile", "DINOv3 S/16 @256", "", 5530, ""),
    (TIMM, "RTX 4090", "torch.compile", "DINOv3 B/16 @256", "", 2027, ""),
    (TIMM, "RTX 4090", "torch.compile", "DINOv3 L/16 @256", "", 662, ""),
    (TIMM, "RTX 4090", "torch.compile", "DINOv3 H+/16 @256", "", 275, ""),
    (FASTER, "A100", "FP16", "ViT-B/16 @224", "32", 3187, "36 %"),
    (FASTER, "A100", "FP16", "ViT-L/16 @224", "32", 1079, "43 %"),
    (FASTER, "A100", "FP16", "ViT-B/16 @384", "32", 730, "26 %"),
    (FASTER, "A100", "FP16, TensorRT plugin", "ViT-B/16 @384", "32", 717, "26 %"),
    (FASTER, "A100", "FP16", "ViT-L/16 @384", "32", 256, "31 %"),
    (FASTER, "A100", "INT8", "ViT-B/16 @224", "32", 4977, ""),
    (FASTER, "A100", "INT8", "ViT-L/16 @224", "32", 1852, ""),
    (FASTER, "A100", "FP16", "ViT-B/16 @224", "1", 654, "7 %"),
    (FASTER, "A100", "FP16", "ViT-L/16 @224", "1", 337, "13 %"),
    (FASTER, "T4", "FP16", "ViT-B/16 @224", "32", 559, "30 %"),
    (FASTER, "T4", "FP16", "ViT-L/16 @224", "32", 186, "35 %"),
    (DEPTH, "RTX 4090", "TensorRT", "DINOv2 S/14 @518 with depth head", "1", 333, "≥ 19 %"),
    (DEPTH, "RTX 4090", "TensorRT", "DINOv2 B/14 @518 with depth head", "1", 167, "≥ 31 %"),
    (DEPTH, "RTX 4090", "TensorRT", "DINOv2 L/14 @518 with depth head", "1", 83, "≥ 51 %"),
    (LIGHTLY, "T4", "TensorRT 10.13 FP16", "DINOv2 S/14 @504 with depth head", "1", 109, ""),
    (LIGHTLY, "T4", "torch.compile", "EoMT DINOv3 S @512", "", 88, ""),
    (LIGHTLY, "T4", "torch.compile", "EoMT DINOv3 B @512", "", 43, ""),
    (LIGHTLY, "T4", "torch.compile", "EoMT DINOv3 L @512", "", 20, ""),
    (ROBOFLOW, "L4", "ONNX Runtime", "ViT @224", "", 238, ""),
    (ROBOFLOW, "L4", "TensorRT", "ViT @224", "", 306.5, "9 %"),
    ("bnabis93/vision-language-examples#11", "A100", "TensorRT", "ViT @224", "1", 610, "7 %"),
)


def published_rows() -> list[dict[str, Any]]:
    """Every published figure: model, device, how, batch, images per second, of peak, source."""
    figures: list[Figure] = []
    for device, how, rates, shares in _TIMM_GPU:
        for model, rate, share in zip(_TIMM_MODELS, rates, shares, strict=True):
            if rate is not None:
                figures.append(
                    (TIMM, device, how, model, "", rate, "" if share is None else f"{share} %")
                )
    for device, values in _TIMM_CPU:
        for model, rate in zip(_TIMM_MODELS, values, strict=True):
            figures.append((TIMM, device, "torch.compile, FP32", model, "1", rate, ""))
    return [
        {
            "model": model,
            "device": device,
            "how": how,
            "batch": batch or None,
            "images/s": rate,
            "of peak": share or None,
            "source": source,
        }
        for source, device, how, model, batch, rate, share in (*figures, *_OTHERS)
    ]
