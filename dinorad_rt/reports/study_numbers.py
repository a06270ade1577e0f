"""Numbers that others published for the study's settings, never computed here.

Source of all: arXiv 2312.02366 and the notebooks of its public code, as traced for this project;
the paper's own tables were not reachable, so only these are known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

NOTEBOOK = "figure data in the notebook of the study's public code"
ALL = "all"


@dataclass(frozen=True)
class Published:
    """Values of one model in one setting.

    Attributes:
        dataset: registered name.
        protocol: `few-shot`, `knn` or `segmentation`.
        metric: what the values are.
        model: our short name of the same backbone, or the name that others gave.
        values: patients or images per class → value; ALL for the whole training set.
        source: where it was read.
    """

    dataset: str
    protocol: str
    metric: str
    model: str
    values: Mapping[int | str, float]
    source: str


def _few_shot(dataset: str, metric: str, model: str, *values: float) -> Published:
    shots: tuple[int | str, ...] = (1, 2, 4, 8, 16, ALL)
    protocol = "few-shot" if metric == "auroc" else "segmentation"
    kept = MappingProxyType(dict(zip(shots, values, strict=True)))
    return Published(dataset, protocol, metric, model, kept, NOTEBOOK)


_DICE_JACCARD = "mean of Dice and Jaccard"
NIH, MONTGOMERY = "nih-chestxray14", "montgomery"

PUBLISHED: tuple[Published, ...] = (
    _few_shot(NIH, "auroc", "vitl14", 0.502, 0.528, 0.519, 0.584, 0.601, 0.763),
    _few_shot(NIH, "auroc", "vitl16_in21k", 0.520, 0.536, 0.548, 0.582, 0.586, 0.752),
    _few_shot(NIH, "auroc", "densenet201", 0.508, 0.525, 0.532, 0.580, 0.586, 0.735),
    _few_shot(NIH, "auroc", "resnet152", 0.482, 0.502, 0.505, 0.556, 0.573, 0.718),
    _few_shot(NIH, "auroc", "vgg19", 0.505, 0.519, 0.521, 0.557, 0.572, 0.696),
    Published(
        NIH,
        "knn",
        "auroc",
        "model not stated",
        MappingProxyType({ALL: 0.661}),
        "an earlier revision of the same notebook; k and model are not stated there",
    ),
    _few_shot(MONTGOMERY, _DICE_JACCARD, "vitl14", 0.929, 0.941, 0.962, 0.961, 0.961, 0.974),
    _few_shot(
        MONTGOMERY, _DICE_JACCARD, "U-Net from scratch", 0.583, 0.788, 0.893, 0.941, 0.960, 0.973
    ),
    _few_shot(
        MONTGOMERY,
        _DICE_JACCARD,
        "TransUNet from scratch",
        0.884,
        0.905,
        0.950,
        0.951,
        0.964,
        0.974,
    ),
    Published(
        "amos22",
        "segmentation",
        "Dice",
        "vitg14",
        MappingProxyType({ALL: 0.642}),
        "a third party's quote of the paper: 448 px, U-Net decoder",
    ),
    Published(
        "amos22",
        "segmentation",
        "Dice",
        "TransUNet from scratch",
        MappingProxyType({ALL: 0.535}),
        "a third party's quote of the paper",
    ),
)


def published_for(dataset: str, protocol: str | None = None) -> tuple[Published, ...]:
    """What others published for a dataset, and a protocol if named."""
    return tuple(
        item for item in PUBLISHED if item.dataset == dataset and protocol in (None, item.protocol)
    )
