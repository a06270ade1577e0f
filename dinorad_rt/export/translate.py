"""Translations of PyTorch calls that the exporter's own would make less clean.

Imported late: it needs torch and onnxscript.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnxscript
import onnxscript.ir as ir
import torch

# Untyped on purpose: the stubs bind values of a graph to tensors, and differ between versions.
op: Any = onnxscript.opset20
_LOW = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)


def translations(*, softmax_fp32: bool) -> dict[Any, Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`.

    Args:
        softmax_fp32: in a graph of a lower type, cast scores to FP32 around the softmax.
    """

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        """MatMul, Softmax, MatMul; a scale other than 1 goes to the query first."""
        if is_causal or enable_gqa or dropout_p:
            raise NotImplementedError("causal, grouped or dropped-out attention")
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        if factor != 1.0:
            query = op.Mul(query, op.CastLike(op.Constant(value_float=factor), query))
        last = len(key.shape) - 1
        order = [*range(last - 1), last, last - 1]
        scores = op.MatMul(query, op.Transpose(key, perm=order))
        if attn_mask is not None:
            scores = op.Add(scores, attn_mask)
        if softmax_fp32 and query.dtype in _LOW:
            shares = op.Softmax(op.Cast(scores, to=int(ir.DataType.FLOAT)), axis=-1)
            return op.MatMul(op.Cast(shares, to=int(query.dtype)), value)
        return op.MatMul(op.Softmax(scores, axis=-1), value)

    def conv3d(
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Sequence[int] = (1, 1, 1),
        padding: Sequence[int] = (0, 0, 0),
        dilation: Sequence[int] = (1, 1, 1),
        groups: int = 1,
    ) -> Any:
        """The exporter's own gives a convolution without a bias one of the wrong shape."""
        step, border, spread = (_each(value, 3) for value in (stride, padding, dilation))
        given = {
            "strides": step,
            "pads": [*border, *border],
            "dilations": spread,
            "group": int(groups),
        }
        return op.Conv(x, weight, **given) if bias is None else op.Conv(x, weight, bias, **given)

    return {
        torch.ops.aten.linear.default: linear,
        torch.ops.aten.scaled_dot_product_attention.default: attention,
        torch.ops.aten.conv3d.default: conv3d,
        torch.ops.aten.prelu.default: prelu,
        torch.ops.aten.adaptive_avg_pool2d.default: adaptive_average,
        torch.ops.aten.roll.default: roll,
    }


def linear(x: Any, weight: Any, bias: Any = None) -> Any:
    """A matrix product that keeps the batch axis, never a Gemm on flattened rows."""
    product = op.MatMul(x, op.Transpose(weight, perm=[1, 0]))
    return product if bias is None else op.Add(product, bias)


def prelu(x: Any, weight: Any) -> Any:
    """The slope stays a weight under its own name, so that an engine can take another one."""
    if list(weight.shape) == [1]:
        return op.PRelu(x, weight)
    return op.PRelu(x, op.Reshape(weight, op.Constant(value_ints=[-1, *[1] * (len(x.shape) - 2)])))


def _each(values: Sequence[int], count: int) -> list[int]:
    """One number stands for all sides."""
    sides = [int(value) for value in values]
    return sides * count if len(sides) == 1 else sides


def adaptive_average(x: Any, output_size: Sequence[int]) -> Any:
    """Pooling to a fixed grid; to 1 x 1 it is the mean over all pixels."""
    sides = [int(side) for side in x.shape[-2:]]
    grid = [int(side) for side in output_size]
    if grid == [1, 1]:
        return op.ReduceMean(x, op.Constant(value_ints=[-2, -1]), keepdims=1)
    if any(side % cells for side, cells in zip(sides, grid, strict=True)):
        raise NotImplementedError(f"adaptive pooling of {sides} to {grid}")
    kernel = [side // cells for side, cells in zip(sides, grid, strict=True)]
    return op.AveragePool(x, kernel_shape=kernel, strides=kernel)


def roll(x: Any, shifts: Sequence[int], dims: Sequence[int] = ()) -> Any:
    """Shifted windows: two slices and a concatenation per axis of fixed size."""
    if not dims:
        raise NotImplementedError("roll over all axes at once")
    for shift, dim in zip(shifts, dims, strict=True):
        size = int(x.shape[dim])
        start = -int(shift) % size
        if start:
            place = op.Constant(value_ints=[start])
            axis = op.Constant(value_ints=[int(dim)])
            tail = op.Slice(x, place, op.Constant(value_ints=[size]), axis)
            head = op.Slice(x, op.Constant(value_ints=[0]), place, axis)
            shape, kind = x.shape, x.type
            x = op.Concat(tail, head, axis=int(dim))
            x.shape, x.type = shape, kind
    return x
