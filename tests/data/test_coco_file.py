"""A file that is read in blocks says what it says when it is read whole."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.errors import DataError
from detdistill.data import coco_file
from detdistill.data.coco_file import Block, CocoFile

REGULAR = {"id": 1, "image_id": 2, "category_id": 3, "bbox": [1, 2.5, 3, 4], "area": 7.5, "iscrowd": 0}


def written(folder: Path, annotations: list[Any], *, indent: int | None = None) -> Path:
    file = folder / "instances.json"
    content = {"images": [], "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    file.write_text(json.dumps(content, indent=indent))
    return file


def entries(blocks: Iterable[Block[Any]]) -> list[Any]:
    """Everything as dictionaries, after a look at the numbering."""
    found: list[Any] = []
    for block in blocks:
        assert block.start == len(found)
        found += [known(msgspec.to_builtins(row)) for row in block.rows] + block.entries
    return found


def known(row: dict[str, Any]) -> dict[str, Any]:
    return {key: list(value) if key == "bbox" else value for key, value in row.items() if value is not None}


def small_blocks(patch: pytest.MonkeyPatch) -> None:
    """Files are large from one byte on, and blocks hold about one entry."""
    patch.setattr(coco_file, "_MAPPED", 1)
    patch.setattr(coco_file, "_BLOCK", 1)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('},{ ab\\"', max_size=6), inner, max_size=3),
    max_leaves=8,
)
unusual = st.fixed_dictionaries({"id": st.integers(), "bbox": anything, "attributes": anything}) | anything


@settings(max_examples=200, deadline=None)
@given(st.lists(st.just(REGULAR) | unusual, max_size=12), st.sampled_from([None, 0, 2]))
def test_blocks_hold_what_python_reads(tmp_path_factory: Any, annotations: list[Any], indent: int | None) -> None:
    file = written(tmp_path_factory.mktemp("blocks"), annotations, indent=indent)
    expected = json.loads(file.read_bytes())["annotations"]
    assert entries(CocoFile(file).annotations()) == expected
    with pytest.MonkeyPatch.context() as patch:
        small_blocks(patch)
        assert entries(CocoFile(file).annotations()) == expected


def test_regular_annotations_are_rows_and_one_unusual_one_costs_its_block_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert all(block.rows for block in CocoFile(written(tmp_path, [REGULAR] * 3)).annotations())
    small_blocks(monkeypatch)
    blocks = list(CocoFile(written(tmp_path, [REGULAR] * 4 + [{"id": "seven"}] + [REGULAR] * 4)).annotations())
    assert sum(len(block.rows) for block in blocks) >= 6
    assert [entry["id"] for block in blocks for entry in block.entries if isinstance(entry["id"], str)] == ["seven"]


@pytest.mark.parametrize("value", [math.nan, math.inf, 10**30, "\ud800", 1e308])
def test_values_that_only_python_writes_are_read(value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(tmp_path, [REGULAR, {"id": 5, "score": value}])
    for _ in range(2):
        found = entries(CocoFile(file).annotations())[1]["score"]
        assert found == value or (isinstance(value, float) and math.isnan(found))
        small_blocks(monkeypatch)


@pytest.mark.parametrize("text", ["9" * 5000, "[" * 100_000 + "]" * 100_000])
def test_what_python_refuses_is_an_error_that_names_the_file(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = written(tmp_path, [REGULAR, {"id": 5, "score": "HERE"}])
    file.write_text(file.read_text().replace('"HERE"', text))
    for _ in range(2):
        with pytest.raises(DataError, match=r"instances\.json"):
            entries(CocoFile(file).annotations())
        small_blocks(monkeypatch)
