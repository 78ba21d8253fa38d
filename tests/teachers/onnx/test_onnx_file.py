from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detdistill.core.errors import DetdistillError
from detdistill.teachers.onnx import onnx_file
from detdistill.teachers.onnx.onnx_file import LARGEST, OnnxTensor, open_onnx
from support.onnx_files import constants, f32, write


def known(path: Path) -> Path:
    return constants(path, {"boxes": f32([[0, 0, 1, 1]])}, extra={"sizes": ["N", 2]}, metadata={"key": "text"})


def refused(path: Path, *words: str) -> None:
    with pytest.raises(DetdistillError) as caught:
        open_onnx(path)
    for word in (str(path), *words):
        assert word in str(caught.value)


def test_inputs_outputs_metadata_and_hash(tmp_path: Path) -> None:
    path = known(tmp_path / "model.onnx")
    file = open_onnx(path)
    assert file.inputs == (
        OnnxTensor("images", (None, 3, 64, 64), "tensor(float)"),
        OnnxTensor("sizes", (None, 2), "tensor(int64)"),
    )
    assert file.output("boxes") == OnnxTensor("boxes", (None, 1, 4), "tensor(float)")
    assert file.output("scores") is None
    assert file.metadata == {"key": "text"}
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "content", [b"", b"not a network", b"PK\x03\x04" + bytes(60), b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_what_is_no_onnx_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    refused(path, "not an ONNX file")


@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_a_cut_file(share: float, tmp_path: Path) -> None:
    path = known(tmp_path / "model.onnx")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(path)


def test_places_that_are_no_files(tmp_path: Path) -> None:
    refused(tmp_path, "directory")
    refused(tmp_path / "missing.onnx", "No such file")
    os.mkfifo(tmp_path / "pipe.onnx")
    refused(tmp_path / "pipe.onnx", "pipe")


def test_sizes_that_are_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)  # a hole: nothing is stored
    refused(path, "2,147,483,647")
    known(path)
    monkeypatch.setattr(onnx_file, "memory", lambda: 100)
    refused(path, "memory")


def test_weights_in_other_files(tmp_path: Path) -> None:
    path = constants(tmp_path / "model.onnx", {"boxes": np.zeros((500, 4), np.float32)})
    model = onnx.load_model(str(path))
    onnx.save_model(
        model, str(path), save_as_external_data=True, location="model.data", size_threshold=0, convert_attribute=True
    )
    refused(path, "model.data", "boxes_one")
    onnx.save_model(onnx.load_model(str(path)), str(tmp_path / "one.onnx"))
    assert open_onnx(tmp_path / "one.onnx").outputs[0].name == "boxes"


def test_weights_in_other_files_are_found_in_inner_graphs(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(f32([1.0]), "inner")
    weights.data_location = TensorProto.EXTERNAL
    weights.external_data.add(key="location", value="../secret")
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["made"], value=weights)],
        "inner",
        [],
        [helper.make_tensor_value_info("made", TensorProto.FLOAT, [1])],
    )
    path = write(
        tmp_path / "model.onnx",
        [helper.make_node("If", ["images"], ["chosen"], then_branch=inner, else_branch=inner)],
        [helper.make_tensor_value_info("images", TensorProto.BOOL, [1])],
        [helper.make_tensor_value_info("chosen", TensorProto.FLOAT, [1])],
    )
    refused(path, "../secret", "inner")
