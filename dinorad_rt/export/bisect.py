"""Which block is to blame when a graph is not its backbone: the first whose output leaves limits.

    arithmetic   typed program, rounded   ↔  the same program, not rounded
    file         ONNX file                ↔  backbone (FP32), or its program (typed, widened)
    leak         ONNX file, one batch     ↔  ONNX file, image by image

Imported late: it needs torch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dinorad_rt.export.emulate import emulate
from dinorad_rt.export.recipe import Recipe
from dinorad_rt.export.sites import (
    Located,
    Sites,
    backbone_sites,
    first_difference,
    onnx_sites,
    program_taps,
)
from dinorad_rt.types import Precision

if TYPE_CHECKING:
    from torch.export import ExportedProgram

    from dinorad_rt.backbones.load import Backbone


@dataclass(frozen=True)
class Suspects:
    """What failed, and all of its forms.

    Attributes:
        backbone: None where only the graph is at hand.
        recipe, program, path, precision: of the graph.
        arithmetic: the typed program is not the backbone.
        file: the ONNX file is not the program.
        leak: an image's row depends on its batch.
    """

    backbone: Backbone | None
    recipe: Recipe
    program: ExportedProgram
    path: Path
    precision: Precision
    arithmetic: bool = False
    file: bool = False
    leak: bool = False


def locate(suspects: Suspects, images: np.ndarray) -> list[Located]:
    """The first block that leaves the limits, for everything that failed.

    Args:
        suspects: what failed.
        images: probe images (images, 3, H, W).
    """
    typed = suspects.precision != "fp32"
    found = []
    if suspects.arithmetic:
        found.append(_arithmetic(suspects, images))
    if suspects.file:
        limits = suspects.recipe.widened if typed else suspects.recipe.limits["fp32"]
        wanted = _wanted(suspects, images)
        have = onnx_sites(suspects.path, images, typed=typed)
        found.append(first_difference(wanted, have, limits.relative_l2, "the ONNX file"))
    if suspects.leak:
        limit = suspects.recipe.limits["fp32"].rows
        alone = onnx_sites(suspects.path, images, typed=typed)
        together = onnx_sites(suspects.path, images, typed=typed, batch=True)
        found.append(first_difference(alone, together, limit, "a batch, against single images,"))
    return found


def program_sites(program: ExportedProgram, images: np.ndarray, *, rounding: bool) -> Sites:
    """Values of the sites of a traced program; see `emulate`."""
    found: Sites = {}
    emulate(program, images, rounding=rounding, taps=program_taps(program), found=found)
    return found


def _arithmetic(suspects: Suspects, images: np.ndarray) -> Located:
    wanted = program_sites(suspects.program, images, rounding=False)
    have = program_sites(suspects.program, images, rounding=True)
    limit = suspects.recipe.limits[suspects.precision].relative_l2
    place = first_difference(wanted, have, limit, f"the arithmetic of {suspects.precision}")
    return replace(place, blames_precision=True)


def _wanted(suspects: Suspects, images: np.ndarray) -> Sites:
    """The backbone's own where its blocks are ours (FP32 transformers), else the program's."""
    own = suspects.backbone
    if own is not None and suspects.precision == "fp32" and suspects.recipe.graph == "tokens":
        return backbone_sites(own, images)
    return program_sites(suspects.program, images, rounding=False)
