"""Run a typed program in FP32, with or without the rounding of its types.

With rounding every value that the graph types FP16 or BF16 is rounded to it, and products are
accumulated in FP32: the arithmetic of tensor cores, on any processor and the same everywhere
(but for the order of sums). A GPU is used where there is one: a large model takes minutes else.
Without, only the stored weights are rounded: what ONNX Runtime computes from the widened graph.
Imported late: it needs torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch.export import ExportedProgram
from torch.fx import Interpreter, Node

from dinorad_rt.export.constants import Weights
from dinorad_rt.export.precision import operator_name, scope_of

_LOW = (torch.float16, torch.bfloat16)


def emulate(
    program: ExportedProgram,
    images: np.ndarray,
    *,
    rounding: bool,
    taps: Mapping[Node, str] | None = None,
    found: dict[str, np.ndarray] | None = None,
) -> tuple[list[np.ndarray], str | None]:
    """Outputs of a program for images, one at a time.

    Args:
        program: from `export_program`.
        images: (count, 3, H, W) float32.
        rounding: round every value of a lower type.
        taps: nodes whose values are wanted too, with their names.
        found: gets them, each (count, ...) float32.

    Returns:
        Outputs, each (count, ...) float32, and the module and call whose result first was not
        finite, or None.
    """
    runner = _Emulator(program, rounding=rounding, taps=taps or {})
    with torch.no_grad(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        rows = [runner.run_image(torch.from_numpy(image[None])) for image in images]
    if found is not None:
        found |= {name: np.concatenate(values) for name, values in runner.found.items()}
    return [np.concatenate(values) for values in zip(*rows, strict=True)], runner.first_bad


class _Emulator(Interpreter):
    def __init__(
        self, program: ExportedProgram, *, rounding: bool, taps: Mapping[Node, str]
    ) -> None:
        super().__init__(program.graph_module)
        self._taps = taps
        self.found: dict[str, list[np.ndarray]] = {name: [] for name in taps.values()}
        self._weights = Weights(program)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._rounding = rounding
        self._image: torch.Tensor | None = None
        self.first_bad: str | None = None

    def run_image(self, image: torch.Tensor) -> list[np.ndarray]:
        self._image = image
        outputs = self.run(enable_io_processing=False)
        return [_on_host(value) for value in outputs]

    def run_node(self, n: Node) -> Any:
        if n.op == "output":
            return super().run_node(n)
        if n.op == "placeholder":
            found = self._weights.get(n) if n in self._weights else self._image
            assert found is not None
            found = found.to(self._device)
            return found.float() if found.dtype in _LOW else found
        if n.target is torch.ops.aten._to_copy.default and _is_low_cast(n):
            result = self.fetch_args_kwargs_from_env(n)[0][0]
        elif operator_name(n) == "scaled_dot_product_attention":
            result = self._attention(n)
        elif "device" in n.kwargs:
            args, kwargs = self.fetch_args_kwargs_from_env(n)
            result = self.call_function(n.target, args, {**kwargs, "device": self._device})
        else:
            result = super().run_node(n)
        value = self._round(n, n.meta.get("val"), result)
        if n in self._taps:
            self.found[self._taps[n]].append(_on_host(value))
        return value

    def _attention(self, n: Node) -> torch.Tensor:
        """Scores and shares are rounded as in the ONNX graph."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        query, key, value = args[:3]
        mask = args[3] if len(args) > 3 else kwargs.get("attn_mask")
        scale = kwargs.get("scale")
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        kind = n.meta["val"].dtype
        scores = self._to(kind, (query * factor) @ key.transpose(-2, -1))
        if mask is not None:
            scores = self._to(kind, scores + mask)
        shares = self._to(kind, scores.softmax(dim=-1))
        mixed: torch.Tensor = shares @ value
        return mixed

    def _to(self, kind: torch.dtype, value: torch.Tensor) -> torch.Tensor:
        return value.to(kind).float() if self._rounding and kind in _LOW else value

    def _round(self, n: Node, traced: Any, value: Any) -> Any:
        if isinstance(value, (tuple, list)):
            return type(value)(self._round(n, *pair) for pair in zip(traced, value, strict=True))
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            return value
        value = self._to(traced.dtype, value)
        if self.first_bad is None and not bool(torch.isfinite(value).all()):
            self.first_bad = f"{scope_of(n) or 'the model'} ({operator_name(n)})"
        return value


def _on_host(value: torch.Tensor) -> np.ndarray:
    return np.array(value.float().cpu().numpy())


def _is_low_cast(node: Node) -> bool:
    return node.kwargs.get("dtype") in _LOW
