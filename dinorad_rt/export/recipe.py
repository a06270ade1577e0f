"""Recipes: one TOML file per backbone family under `export/`, laid over `common.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from dinorad_rt.errors import ExportError, unknown_name
from dinorad_rt.files import sha256_json
from dinorad_rt.paths import recipe_dir
from dinorad_rt.types import PRECISIONS, Precision

GraphKind = Literal["tokens", "sam", "pooled", "network"]
LowType = Literal["fp16", "bf16"]
COMMON = "common"
ROLES = ("normalisation", "softmax", "layer_scale", "residual", "pooling")
OPERATORS = ("attention",)


@dataclass(frozen=True)
class Typing:
    """How a graph of one precision is typed.

    Attributes:
        low: type of the matrix products and of what lies between them; None for an FP32 graph.
        fp32_roles: of `ROLES`, what is computed in FP32 nevertheless.
        fp32_operators: of `OPERATORS`, matrix products that stay in FP32.
        fp32_scopes: module paths (`patch_embed`, `blocks.3.attn`) that stay in FP32 as a whole.
    """

    low: LowType | None
    fp32_roles: frozenset[str] = frozenset()
    fp32_operators: frozenset[str] = frozenset()
    fp32_scopes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Quantisation:
    """How a graph becomes INT8.

    Attributes:
        images: of the train split, to calibrate on.
        held_out: other images of it, to judge the result by.
        keep_fp32: parts of the names of ONNX nodes that are never quantised.
    """

    images: int
    held_out: int
    keep_fp32: tuple[str, ...]


@dataclass(frozen=True)
class ParityLimits:
    """What two forms of one graph may differ.

    Attributes:
        cosine: least cosine of any class token or patch mean.
        patch_cosine: least first percentile of the patch tokens' cosine.
        relative_l2: greatest relative L2 distance of an image's output.
        rows: greatest relative L2 distance between two runs of one image in other company.
    """

    cosine: float
    patch_cosine: float
    relative_l2: float
    rows: float


@dataclass(frozen=True)
class Recipe:
    """How a family leaves PyTorch.

    Attributes:
        family: name of the file.
        graph: which traced form: `tokens`, `sam`, `pooled`, or `network` (trained from scratch).
        opset: ONNX operator set.
        cls_blocks: rows of the output `cls`; 0 if there is none.
        patch_blocks: blocks of the dense output `patch_tokens`; 0 if there is none.
        forbidden: ONNX operators that may not occur.
        at_most: ONNX operator → greatest number in a graph.
        attention: whether every Softmax must stand between two MatMuls.
        images, batches: probe images of the parity check, and the batches they are run in.
        limits: precision → limits of its arithmetic against FP32.
        widened: limits of a typed ONNX file against its program, both widened to FP32.
        int8_build: limits of an INT8 engine against its graph.
        digest: SHA-256 over the whole recipe.
    """

    family: str
    graph: GraphKind
    opset: int
    cls_blocks: int
    patch_blocks: int
    forbidden: tuple[str, ...]
    at_most: Mapping[str, int]
    attention: bool
    images: int
    batches: tuple[int, ...]
    limits: Mapping[Precision, ParityLimits]
    widened: ParityLimits
    int8_build: ParityLimits
    digest: str
    fp32_roles: frozenset[str] = frozenset()
    mixed: Typing = field(default_factory=lambda: Typing("fp16"))
    int8: Quantisation = field(default_factory=lambda: Quantisation(64, 32, ()))

    def output_names(self, *, dense: bool = False) -> tuple[str, ...]:
        """Names of the outputs in their order.

        Raises:
            ExportError: a dense graph of a family without patch tokens.
        """
        if dense and not self.patch_blocks:
            raise ExportError(
                f"Backbones of the family {self.family!r} have no patch tokens, so there is no "
                "dense graph of them.",
                "Leave out --dense, or choose a vision transformer: dinorad-rt list models",
            )
        if self.graph == "network":
            return ("logits",)
        if self.graph != "tokens":
            return ("cls",)
        return ("cls", "patch_mean", "patch_tokens") if dense else ("cls", "patch_mean")

    def build_limits(self, precision: Precision) -> ParityLimits:
        """Limits of an engine against its graph."""
        return self.int8_build if precision == "int8" else self.limits[precision]

    def typing(self, precision: Precision, keep_fp32: tuple[str, ...] = ()) -> Typing:
        """How a graph of this precision is typed.

        Args:
            precision: of the request; an INT8 graph is made from the FP32 one.
            keep_fp32: module paths that stay in FP32. In `mixed` they take the place of what the
                recipe keeps.
        """
        if precision in ("fp32", "int8"):
            return Typing(None)
        if precision == "mixed":
            base = self.mixed
            if keep_fp32:
                return Typing(base.low, self.fp32_roles, fp32_scopes=keep_fp32)
            return Typing(base.low, self.fp32_roles, base.fp32_operators, base.fp32_scopes)
        low = cast(LowType, precision)
        return Typing(low, self.fp32_roles, fp32_scopes=keep_fp32)


def load_recipe(family: str) -> Recipe:
    """Read the recipe of a backbone family.

    Raises:
        UnknownNameError: there is no such file.
        ExportError: the file is not a valid recipe.
    """
    folder = recipe_dir("export")
    known = sorted(path.stem for path in folder.glob("*.toml") if path.stem != COMMON)
    if family not in known:
        raise unknown_name("recipe", family, known, "dinorad-rt list models")
    table = _overlay(_read(folder / f"{COMMON}.toml"), _read(folder / f"{family}.toml"))
    try:
        return _recipe(family, table)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ExportError(
            f"The recipe export/{family}.toml is not valid: {type(error).__name__} {error}.",
            "Compare it with export/README.md.",
        ) from error


def _recipe(family: str, table: Mapping[str, Any]) -> Recipe:
    outputs, precision = table["outputs"], table["precision"]
    lint, parity, mixed = table["lint"], table["parity"], table["precision"]["mixed"]
    return Recipe(
        family=family,
        graph=cast(GraphKind, _one_of(table["graph"], get_args(GraphKind))),
        opset=int(table["opset"]),
        cls_blocks=int(outputs.get("cls", 0)),
        patch_blocks=int(outputs.get("patch_tokens", 0)),
        forbidden=tuple(lint["forbidden"]),
        at_most={str(name): int(count) for name, count in lint["at_most"].items()},
        attention=bool(lint["attention"]),
        images=int(parity["images"]),
        batches=tuple(int(batch) for batch in parity["batches"]),
        limits={name: ParityLimits(**parity[name]) for name in PRECISIONS},
        widened=ParityLimits(**parity["widened"]),
        int8_build=ParityLimits(**parity["int8_build"]),
        digest=sha256_json({"family": family, **table}),
        fp32_roles=frozenset(_one_of(role, ROLES) for role in precision["fp32"]),
        mixed=Typing(
            low=cast(LowType, _one_of(mixed["low"], ("fp16", "bf16"))),
            fp32_operators=frozenset(_one_of(name, OPERATORS) for name in mixed["fp32_operators"]),
            fp32_scopes=tuple(mixed["fp32_scopes"]),
        ),
        int8=Quantisation(
            images=int(precision["int8"]["images"]),
            held_out=int(precision["int8"]["held_out"]),
            keep_fp32=tuple(precision["int8"]["keep_fp32"]),
        ),
    )


def _one_of(value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise ValueError(f"{value!r} is none of {', '.join(allowed)}")
    return value


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ExportError(f"export/{path.name} is not valid TOML: {error}", "Mend it.") from error


def _overlay(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """`above` over `below`; tables are merged, everything else is replaced."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        both = isinstance(value, dict) and isinstance(inner, dict)
        merged[key] = _overlay(inner, value) if both and inner is not None else value
    return merged
