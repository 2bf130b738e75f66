"""Weights of ONNX graphs as int8, one scale a channel, behind a DequantizeLinear; activations stay float32."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

SMALLEST = 2048  # weights with fewer values stay float32


def to_int8(weights: NDArray[Any], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Symmetric int8 with one scale along ``axis``."""
    others = tuple(i for i in range(weights.ndim) if i != axis)
    scales = np.maximum(np.abs(weights).max(axis=others), 1e-8).astype(np.float32) / 127
    shape = [-1 if i == axis else 1 for i in range(weights.ndim)]
    return np.round(weights / scales.reshape(shape)).clip(-127, 127).astype(np.int8), scales


def shrink(model: onnx.ModelProto) -> None:
    """Store every large float weight of a graph as int8, behind a DequantizeLinear."""
    graph = model.graph
    axes = {name: axis for node in graph.node for name, axis in _weight_axes(node)}
    for weight in list(graph.initializer):
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.ndim < 2 or values.size < SMALLEST:
            continue
        axis = axes.get(weight.name, 0) % values.ndim
        small, scales = to_int8(values, axis)
        parts = {"q": small, "s": scales, "z": np.zeros(len(scales), np.int8)}
        graph.initializer.remove(weight)
        graph.initializer.extend(numpy_helper.from_array(v, f"{weight.name}.{k}") for k, v in parts.items())
        inputs = [f"{weight.name}.{k}" for k in parts]
        graph.node.insert(0, helper.make_node("DequantizeLinear", inputs, [weight.name], axis=axis))


def _weight_axes(node: onnx.NodeProto) -> list[tuple[str, int]]:
    """The axis of the output channels, for the weights that a node multiplies by."""
    if node.op_type == "MatMul":
        return [(node.input[1], -1)]
    if node.op_type == "Gemm":
        transposed = any(a.name == "transB" and a.i == 1 for a in node.attribute)
        return [(node.input[1], 0 if transposed else 1)]
    return []
