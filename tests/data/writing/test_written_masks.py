"""Masks of a dataset that is written again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detdistill.core.rle import bitmap_of
from detdistill.data import open_dataset
from detdistill.data.inspecting import inspect_parts
from detdistill.data.source import DatasetSource
from detdistill.data.writing.converting import convert_dataset, write_split
from detdistill.data.writing.losses import Format

SQUARE = [4, 6, 14, 6, 14, 16, 4, 16]


@pytest.fixture
def source(tmp_path: Path) -> DatasetSource:
    folder = tmp_path / "data"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    names = ("a.png", "b.png")
    for name in names:
        Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(folder / "images" / name)
    entry: dict[str, Any] = {"category_id": 1, "bbox": [4, 6, 10, 10]}
    content = {
        "images": [{"id": i, "file_name": name, "height": 30, "width": 40} for i, name in enumerate(names)],
        "annotations": [
            {"id": 1, "image_id": 0, **entry, "segmentation": [SQUARE]},
            {"id": 2, "image_id": 1, **entry},
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (folder / "train.json").write_text(json.dumps(content))
    return DatasetSource(folder, masks=True)


def test_coco_keeps_masks(source: DatasetSource, tmp_path: Path) -> None:
    own = source.open()
    assert own.images.masks is not None
    written = convert_dataset(source, tmp_path / "coco", "coco").written
    assert not any("mask" in warning for warning in written.warnings)
    again = open_dataset(tmp_path / "coco", masks=True)
    assert again.images.masks is not None
    assert list(again.images.masks) == list(own.images.masks)
    assert [bool(text) for text in again.images.masks] == [True, False]
    split = write_split(source, tmp_path / "split", val=0.5)
    masks = [text for name in split.split.parts for text in open_masks(split.folder / f"{name}.json")]
    assert sorted(masks) == sorted(own.images.masks)
    assert convert_dataset(replace(source, masks=False), tmp_path / "boxes", "coco").written.warnings == ()
    assert open_dataset(tmp_path / "boxes", masks=True).images.masks is None


def open_masks(file: Path) -> list[str]:
    read = open_dataset(file, masks=True).images
    return [""] * len(read.labels) if read.masks is None else list(read.masks)


@pytest.mark.parametrize("to", ["voc", "yolo"])
def test_other_formats_say_that_masks_are_lost(source: DatasetSource, to: Format, tmp_path: Path) -> None:
    written = convert_dataset(source, tmp_path / "out", to).written
    assert any("1 object" in warning and "mask" in warning for warning in written.warnings)


def test_a_dataset_without_any_mask_is_read_without(source: DatasetSource) -> None:
    file = Path(source.path) / "train.json"
    content = json.loads(file.read_text())
    del content["annotations"][0]["segmentation"]
    file.write_text(json.dumps(content))
    read = source.open()
    assert read.images.masks is None
    assert [(problem.unit, problem.count) for problem in read.problems] == [("object", 2)]
    assert replace(source, masks=False).open().problems == ()


def test_masks_follow_images_that_were_resized(source: DatasetSource) -> None:
    with Image.open(Path(source.path) / "images" / "a.png") as image:
        image.resize((80, 60)).save(Path(source.path) / "images" / "a.png")
    read = replace(source, rescale=True).open()
    assert read.images.masks is not None
    expected = np.zeros((60, 80), np.uint8)
    expected[12:32, 8:28] = 1
    np.testing.assert_array_equal(bitmap_of(read.images.masks[0], (60, 80)), expected)
    assert read.images[0].boxes.tolist() == [[8, 12, 28, 32]]


def test_contact_sheets_show_masks(source: DatasetSource, tmp_path: Path) -> None:
    sheets = []
    for masks in (True, False):
        (part,) = inspect_parts(replace(source, masks=masks), sheet=tmp_path / f"{masks}.png")
        assert part.sheet is not None
        with Image.open(part.sheet) as sheet:
            sheets.append(np.asarray(sheet).astype(int))
    changed = (sheets[0] != sheets[1]).any(axis=2)
    # Of one object, 10 x 10 pixels that are enlarged four times at the most.
    assert 300 < changed.sum() <= 1600
