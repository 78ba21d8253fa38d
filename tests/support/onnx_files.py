"""Small ONNX files with the outputs of known exporters and known values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17


def constants(
    path: Path,
    outputs: Mapping[str, NDArray[Any]],
    *,
    size: tuple[int | str, int | str] = (64, 64),
    image: str = "images",
    batch: int | str = "N",
    image_type: int = TensorProto.FLOAT,
    extra: Mapping[str, Sequence[int | str]] | None = None,
    metadata: Mapping[str, str] | None = None,
    shapes: Mapping[str, Sequence[int | str]] | None = None,
    channels_last: bool = False,
) -> Path:
    """A file whose outputs are the same values for every image, so that boxes are known by hand.

    Args:
        path: to write.
        outputs: `(P, …)` values of one image, by name.
        size: height and width of the input; texts are free.
        image: name of the image input.
        batch: its number of images; a text is free.
        image_type: of its elements.
        extra: shapes of further inputs by name, int64.
        metadata: texts by key.
        shapes: of outputs that are not what their values have, by name.
        channels_last: the input is (N, H, W, 3).
    """
    shape = [batch, *size, 3] if channels_last else [batch, 3, *size]
    inputs = [helper.make_tensor_value_info(image, image_type, shape)]
    nodes = [
        helper.make_node("Shape", [image], ["count"], start=0, end=1),
    ]
    starts, made = [], []
    for name, own in (extra or {}).items():
        inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, own))
    for name, value in outputs.items():
        starts.append(numpy_helper.from_array(value[None], f"{name}_one"))
        starts.append(numpy_helper.from_array(np.array(value.shape, np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Concat", ["count", f"{name}_shape"], [f"{name}_all"], axis=0))
        nodes.append(helper.make_node("Expand", [f"{name}_one", f"{name}_all"], [name]))
        declared = list((shapes or {}).get(name, [batch, *value.shape]))
        made.append(helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), declared))
    return write(path, nodes, inputs, made, starts, metadata)


def write(
    path: Path,
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    constants: Sequence[Any] = (),
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a graph."""
    graph = helper.make_graph(list(nodes), "teacher", list(inputs), list(outputs), list(constants))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    helper.set_model_props(model, dict(metadata or {}))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def relative_times_size(path: Path, boxes: NDArray[np.float32], *, size: tuple[int, int] = (64, 64)) -> Path:
    """A file of D-FINE: relative corner boxes `(P, 4)` times `orig_target_sizes` (width, height).

    Scores fall from .9 by .1, and all labels are 0.
    """
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *size])
    sizes = helper.make_tensor_value_info("orig_target_sizes", TensorProto.INT64, ["N", 2])
    count = len(boxes)
    starts = [
        numpy_helper.from_array(boxes[None], "relative"),
        numpy_helper.from_array(np.zeros((1, count), np.int64), "zeros"),
        numpy_helper.from_array(0.9 - 0.1 * np.arange(count, dtype=np.float32)[None], "falling"),
        numpy_helper.from_array(np.array([count], np.int64), "rows"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
    ]
    nodes = [
        helper.make_node("Cast", ["orig_target_sizes"], ["sizes"], to=TensorProto.FLOAT),
        helper.make_node("Concat", ["sizes", "sizes"], ["twice"], axis=1),
        helper.make_node("Unsqueeze", ["twice", "one"], ["spread"]),
        helper.make_node("Mul", ["relative", "spread"], ["boxes"]),
        helper.make_node("Shape", ["images"], ["number"], start=0, end=1),
        helper.make_node("Concat", ["number", "rows"], ["shape"], axis=0),
        helper.make_node("Expand", ["zeros", "shape"], ["labels"]),
        helper.make_node("Expand", ["falling", "shape"], ["scores"]),
    ]
    outputs = [
        helper.make_tensor_value_info("labels", TensorProto.INT64, ["N", count]),
        helper.make_tensor_value_info("boxes", TensorProto.FLOAT, ["N", count, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", count]),
    ]
    return write(path, nodes, [images, sizes], outputs, starts)


def mean_pixel(path: Path, *, size: tuple[int, int] = (64, 64)) -> Path:
    """A file with two outputs of one row: a box `(N, 1, 4)` of each channel's mean as the network gets it, and .5."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["N", 3, *size])
    starts = [
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array([[[0.5]]], np.float32), "half"),
        numpy_helper.from_array(np.array([1, 1], np.int64), "ones"),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("ReduceSum", ["means", "one"], ["total"], keepdims=1),
        helper.make_node("Concat", ["means", "total"], ["row"], axis=1),
        helper.make_node("Unsqueeze", ["row", "one"], ["values"]),
        helper.make_node("Shape", ["images"], ["number"], start=0, end=1),
        helper.make_node("Concat", ["number", "ones"], ["shape"], axis=0),
        helper.make_node("Expand", ["half", "shape"], ["scores"]),
    ]
    outputs = [
        helper.make_tensor_value_info("values", TensorProto.FLOAT, ["N", 1, 4]),
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["N", 1, 1]),
    ]
    return write(path, nodes, [images], outputs, starts)


def f32(values: Any) -> NDArray[np.float32]:
    """An array of float32."""
    return np.array(values, np.float32)


def one_hot_logits(count: int, columns: int, *, high: float = 4.0, low: float = -12.0) -> NDArray[np.float32]:
    """`(count, columns)` logits, row r high in column r."""
    logits = np.full((count, columns), low, np.float32)
    logits[np.arange(count), np.arange(count) % columns] = high
    return logits
