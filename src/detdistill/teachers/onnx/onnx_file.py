"""An ONNX file of somebody else: opened safely, and what it says of itself."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from detdistill.core.errors import DetdistillError
from detdistill.core.files import open_regular
from detdistill.core.onnx_runtime import check_installed, session

LARGEST = 2**31 - 1
"""Bytes of an ONNX file: more cannot be in one message of protobuf."""

Shape = tuple[int | None, ...]
"""Sizes of the dimensions; None for those that are free."""


@dataclass(frozen=True)
class OnnxTensor:
    """An input or output.

    Attributes:
        name: its name.
        shape: its shape.
        type: of its elements, in onnxruntime's words, such as `tensor(float)`.
    """

    name: str
    shape: Shape
    type: str

    def __str__(self) -> str:
        return f"{self.name} {in_words(self.shape)}"


@dataclass(frozen=True, eq=False)
class OnnxFile:
    """An opened file.

    Attributes:
        path: of the file.
        inputs: in their order.
        outputs: in their order.
        metadata: texts by key.
        sha256: of the file, in hexadecimal.
        session: of onnxruntime.
    """

    path: Path
    inputs: tuple[OnnxTensor, ...]
    outputs: tuple[OnnxTensor, ...]
    metadata: Mapping[str, str]
    sha256: str
    session: Any

    def output(self, name: str) -> OnnxTensor | None:
        """Return the output of a name; None if there is none."""
        return next((each for each in self.outputs if each.name == name), None)


def in_words(shape: Shape) -> str:
    """Return a shape as text, `?` for free sizes."""
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def open_onnx(path: Path) -> OnnxFile:
    """Open an ONNX file in onnxruntime.

    Raises:
        DetdistillError: It cannot be read, is no ONNX file, is too large, or its weights are in other files; or the
            extra `export` is not installed.
    """
    check_installed("an ONNX file", "onnx", "onnxruntime")
    try:
        with open_regular(path) as file:
            _check_size(path, os.fstat(file.fileno()).st_size)
            content = file.read(LARGEST)
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror}") from error
    _check_content(path, content)
    digest = hashlib.sha256(content).hexdigest()
    del content
    runner = session(path, torch.get_num_threads(), on_cpu=False)
    return OnnxFile(
        path,
        tuple(_tensor(each) for each in runner.get_inputs()),
        tuple(_tensor(each) for each in runner.get_outputs()),
        dict(runner.get_modelmeta().custom_metadata_map),
        digest,
        runner,
    )


def memory() -> int:
    """Return the bytes of memory that the machine has; more than any file has where that cannot be read."""
    if not hasattr(os, "sysconf"):  # Windows
        return sys.maxsize
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_size(path: Path, size: int) -> None:
    if size > LARGEST:
        raise DetdistillError(
            f"{path}: {size:,} bytes; expected at most {LARGEST:,} bytes, which is all that an ONNX file can hold"
        )
    if size > memory():
        raise DetdistillError(
            f"{path}: {size:,} bytes do not fit into the {memory():,} bytes of memory here: use a smaller teacher, or "
            "a machine with more memory"
        )


def _check_content(path: Path, content: bytes) -> None:
    """Raise `DetdistillError` for what is no ONNX file, or not all of one."""
    import onnx

    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's own, whichever of its implementations is installed
        raise DetdistillError(f"{path} is not an ONNX file: expected what an exporter wrote as .onnx") from error
    if not model.graph.output:
        raise DetdistillError(
            f"{path} is not an ONNX file: it has no outputs; expected what an exporter wrote as .onnx"
        )
    for tensor in _tensors(model):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = next((each.value for each in tensor.external_data if each.key == "location"), "another file")
            raise DetdistillError(
                f"{path}: the weights {tensor.name} are in {place}; expected one file with everything: "
                "onnx.save_model(onnx.load(FILE), NEW_FILE)"
            )


def _tensors(model: Any) -> Iterator[Any]:
    """All constants of a model, those of inner graphs and functions too."""
    graphs, nodes = [model.graph], [node for function in model.functions for node in function.node]
    while graphs or nodes:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            nodes.extend(graph.node)
            continue
        for attribute in nodes.pop().attribute:
            yield from (attribute.t, *attribute.tensors)
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
            graphs += [graph for graph in (attribute.g, *attribute.graphs) if graph.node or graph.initializer]


def _tensor(value: Any) -> OnnxTensor:
    return OnnxTensor(value.name, tuple(size if isinstance(size, int) else None for size in value.shape), value.type)
