from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.teachers.onnx.onnx_metadata import LONGEST, own_metadata, ultralytics_metadata

FILE = Path("model.onnx")


@pytest.mark.parametrize(
    "text", ["{0: 'cat', 1: 'dog'}", "{'0': 'cat', '1': 'dog'}", "['cat', 'dog']", "{1: 'dog', 0: 'cat'}"]
)
def test_names_by_number(text: str) -> None:
    found = ultralytics_metadata(FILE, {"names": text})
    assert found is not None
    assert found.names == ("cat", "dog")
    assert (found.is_rtdetr, found.is_final, found.has_nms) == (None, False, False)
    assert (found.size, found.stride) == (None, None)


@given(st.lists(st.text("ab'\"\\\n{}:,é", max_size=5), min_size=1, max_size=30))
def test_any_names_come_back(names: list[str]) -> None:
    found = ultralytics_metadata(FILE, {"names": repr(dict(enumerate(names)))})
    assert found is not None
    assert found.names == tuple(names)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "cat",
        "{1: 'cat'}",
        "{0: 'cat', 2: 'dog'}",
        "{0: 1}",
        "{0: ['cat']}",
        "{[]: 'cat'}",
        "__import__('os').getcwd()",
        "(" * 5_000,
        "-" * 100_000 + "1",
        "'" + "a" * LONGEST + "'",
    ],
)
def test_texts_that_are_no_names_are_refused(text: str) -> None:
    with pytest.raises(DetdistillError, match=r"model\.onnx: metadata names"):
        ultralytics_metadata(FILE, {"names": text})


def test_what_else_it_says() -> None:
    assert ultralytics_metadata(FILE, {"author": "somebody"}) is None
    found = ultralytics_metadata(FILE, {"stride": "32", "end2end": "True", "description": "Ultralytics RT-DETR-l"})
    assert found is not None
    assert (found.names, found.is_rtdetr, found.is_final, found.stride) == (None, True, True, 32)
    found = ultralytics_metadata(FILE, {"stride": "32", "args": "{'nms': True, 'conf': 0.25}", "description": "YOLO"})
    assert found is not None
    assert (found.is_rtdetr, found.is_final, found.has_nms, found.threshold) == (False, True, True, 0.25)
    found = ultralytics_metadata(FILE, {"stride": "32", "description": "Ultralytics best model"})
    assert found is not None
    assert found.is_rtdetr is None
    with pytest.raises(DetdistillError, match="metadata task"):
        ultralytics_metadata(FILE, {"task": "segment"})


def test_sizes_are_one_side_or_two() -> None:
    for text, expected in (("640", (640, 640)), ("[480, 640]", (480, 640)), ("(64, 32)", (64, 32))):
        found = ultralytics_metadata(FILE, {"task": "detect", "imgsz": text})
        assert found is not None
        assert found.size == expected
    for text in ("[640]", "'640'", "[640.5, 640]", "[1, 2, 3]"):
        with pytest.raises(DetdistillError, match="metadata imgsz"):
            ultralytics_metadata(FILE, {"task": "detect", "imgsz": text})


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000])
def test_our_own_metadata_is_read_or_refused(text: str) -> None:
    assert own_metadata(FILE, {"names": "x"}) is None
    assert own_metadata(FILE, {"detdistill": '{"form": "raw"}'}) == {"form": "raw"}
    with pytest.raises(DetdistillError, match="metadata detdistill"):
        own_metadata(FILE, {"detdistill": text})
