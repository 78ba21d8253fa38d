"""Masks of YOLO's polygons and of VOC's `SegmentationObject`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset
from detdistill.core.rle import bitmap_of, box_of
from detdistill.data import open_dataset
from support.small_datasets import write_csv, write_voc, write_yolo

Colors = dict[tuple[int, int, int, int], int | tuple[int, int, int]]
"""The value of a mask by its box x1 y1 x2 y2."""


PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, *[7] * (252 * 3), 224, 224, 192]
"""VOC's colours of the indices 0 to 2 and 255."""


def masks_of(dataset: DetectionDataset, image_id: str) -> list[str]:
    record = next(record for record in dataset.images if record.image_id == image_id)
    assert record.masks is not None
    return list(record.masks)


def yolo(folder: Path, *lines: str) -> Path:
    write_yolo(folder)
    (folder / "labels" / "train" / "one.txt").write_text("\n".join(lines))
    return folder


def test_yolo_s_polygons_are_masks(tmp_path: Path) -> None:
    # Image one is 60 pixels wide and 40 high.
    read = open_dataset(yolo(tmp_path, "1 0.1 0.25 0.5 0.25 0.5 1 0.1 1", "0 .5 .5 .1 .1"), masks=True)
    polygon, box = masks_of(read, "one")
    expected = np.zeros((40, 60), np.uint8)
    expected[10:40, 6:30] = 1
    np.testing.assert_array_equal(bitmap_of(polygon, (40, 60)), expected)
    assert box == ""
    assert [(problem.unit, problem.count) for problem in read.problems if problem.unit == "object"] == [("object", 3)]
    plain = open_dataset(tmp_path)
    assert plain.images.masks is None
    np.testing.assert_array_equal(plain.images.boxes, read.images.boxes)


def test_a_polygon_may_be_followed_by_a_confidence(tmp_path: Path) -> None:
    read = open_dataset(yolo(tmp_path, "1 0.1 0.25 0.5 0.25 0.5 1 0.1 1 0.9"), masks=True)
    assert box_of(masks_of(read, "one")[0], (40, 60)) == (6, 10, 30, 40)


def test_a_polygon_without_a_pixel_keeps_its_box(tmp_path: Path) -> None:
    lines = "1 0.1 0.25 0.5 0.25 0.5 0.252", "1 0.1 0.25 0.5 0.25 0.5 1 0.1 1"
    read = open_dataset(yolo(tmp_path, *lines), masks=True)
    assert [bool(text) for text in masks_of(read, "one")] == [False, True]
    (changed,) = (problem for problem in read.problems if problem.outcome == "changed")
    assert changed.where.endswith("one.txt:1")
    assert changed.what.startswith("polygon: ")


def test_boxes_alone_are_no_masks(tmp_path: Path) -> None:
    read = open_dataset(write_yolo(tmp_path / "yolo"), masks=True)
    table = open_dataset(write_csv(tmp_path / "csv"), masks=True)
    for dataset in (read, table):
        assert dataset.images.masks is None
        assert sum(problem.count for problem in dataset.problems if problem.unit == "object") == 4


def voc(folder: Path, masks: Colors, *, size: tuple[int, int] = (40, 60), mode: str = "P", name: str = "one") -> Path:
    write_voc(folder)
    place = folder / "SegmentationObject"
    place.mkdir()
    pixels = np.zeros((*size, 3) if mode == "RGB" else size, np.uint8)
    for (x1, y1, x2, y2), value in masks.items():
        pixels[y1:y2, x1:x2] = value
    image = Image.fromarray(pixels)
    if mode == "P":
        image.putpalette(PALETTE)
    image.save(place / f"{name}.png")
    return folder


# Image one has a dog at (10, 5) to (30, 25), and a cat on the whole image of 60 x 40 pixels.
DOG, CAT = (10, 5, 30, 25), (1, 0, 58, 40)


@pytest.mark.parametrize(
    ("mode", "values"), [("P", (1, 2)), ("L", (1, 2)), ("L", (90, 30)), ("RGB", ((128, 0, 0), (0, 128, 0)))]
)
def test_masks_are_matched_with_the_objects_by_their_boxes(mode: str, values: Any, tmp_path: Path) -> None:
    void = (224, 224, 192) if mode == "RGB" else 255
    read = open_dataset(voc(tmp_path, {CAT: values[0], DOG: values[1], (9, 5, 10, 25): void}, mode=mode), masks=True)
    dog, cat = masks_of(read, "one")
    expected = np.zeros((2, 40, 60), np.uint8)
    expected[0, 5:25, 10:30] = 1
    expected[1, :, 1:58] = 1
    expected[1, 5:25, 9:30] = 0
    np.testing.assert_array_equal([bitmap_of(text, (40, 60)) for text in (dog, cat)], expected)
    assert masks_of(read, "three") == ["", ""]
    assert [problem.unit for problem in read.problems] == ["object"]
    plain = open_dataset(tmp_path)
    assert plain.images.masks is None
    assert plain.problems == ()


def test_a_mask_elsewhere_is_no_object_s(tmp_path: Path) -> None:
    read = open_dataset(voc(tmp_path, {DOG: 1, (50, 30, 60, 40): 2}), masks=True)
    assert [bool(text) for text in masks_of(read, "one")] == [True, False]
    changed = [problem for problem in read.problems if problem.outcome == "changed"]
    assert [problem.where.rpartition(": ")[2] for problem in changed] == ["object 2"]
    spare = [problem for problem in read.problems if problem.unit == "mask"]
    assert [(problem.count, Path(problem.where).name) for problem in spare] == [(1, "one.png")]
    assert read.left_out == ()


@pytest.mark.parametrize("size", [(60, 40), (41, 60)])
def test_masks_of_another_size_are_not_read(size: tuple[int, int], tmp_path: Path) -> None:
    read = open_dataset(voc(tmp_path, {DOG: 1}, size=size), masks=True)
    assert read.images.masks is None
    (changed,) = (problem for problem in read.problems if problem.outcome == "changed")
    assert Path(changed.where).name == "one.png"


def test_a_damaged_image_of_masks_is_reported(tmp_path: Path) -> None:
    folder = voc(tmp_path, {DOG: 1})
    (folder / "SegmentationObject" / "one.png").write_bytes(b"no image")
    read = open_dataset(folder, masks=True)
    assert read.images.masks is None
    assert [Path(problem.where).name for problem in read.problems if problem.outcome == "changed"] == ["one.png"]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    folder = voc(tmp_path / "data", {DOG: 1})
    file = folder / "SegmentationObject" / "one.png"
    file.rename(tmp_path / "elsewhere.png")
    file.symlink_to(tmp_path / "elsewhere.png")
    read = open_dataset(folder, masks=True)
    assert read.images.masks is None
    assert any("masks" in problem.what and problem.outcome == "changed" for problem in read.problems)
    assert open_dataset(folder, masks=True, follow_links=True).images.masks is not None
