from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.data.contact_sheet import CELL, COLUMNS, ROWS, contact_sheet, default_file, shown_first
from detdistill.report.drawing import class_color


def record(path: Path, labels: list[int], *, crowd: bool = False) -> ImageRecord:
    count = len(labels)
    return ImageRecord(
        image_id=path.stem,
        path=path,
        file_name=path.name,
        width=60,
        height=40,
        boxes=np.tile([5.0, 10.0, 45.0, 35.0], (count, 1)),
        labels=np.array(labels, np.int64),
        areas=np.full(count, 1000.0),
        crowd=np.full(count, crowd),
        difficult=np.zeros(count, bool),
    )


def dataset(folder: Path, labels: list[list[int]], classes: int) -> DetectionDataset:
    paths = [folder / f"{number:03d}.png" for number in range(len(labels))]
    return DetectionDataset(
        "test",
        tuple(f"class {label}" for label in range(classes)),
        tuple(range(classes)),
        ImageTable.of(record(path, image) for path, image in zip(paths, labels, strict=True)),
    )


def write_images(data: DetectionDataset) -> None:
    for image in data.images:
        Image.new("RGB", (image.width, image.height), (1, 2, 3)).save(image.path)


def has_color(picture: Image.Image, color: tuple[int, int, int]) -> bool:
    return bool((np.asarray(picture) == color).all(axis=2).any())


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=1, max_size=30))
def test_every_image_once_and_first_those_that_show_each_class(labels: list[list[int]]) -> None:
    order = shown_first(dataset(Path(), labels, classes=10))
    assert sorted(order) == list(range(len(labels)))
    present = {label for image in labels for label in image}
    assert {label for index in order[: len(present)] for label in labels[index]} == present


def test_a_rare_class_is_shown_and_the_sheet_is_filled(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[0]] * 39 + [[1]], classes=2)
    write_images(data)
    sheet = contact_sheet(data, "many")
    # The legend has its colour anyway: look at the tiles only.
    tiles = sheet.crop((0, 0, sheet.width, sheet.height - 60))
    assert has_color(tiles, class_color(1))
    assert sheet.width > COLUMNS * CELL
    assert sheet.height > ROWS * CELL


def test_a_small_data_set_gives_a_small_sheet(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[0], []], classes=1)
    write_images(data)
    assert contact_sheet(data, "two").width < 3 * CELL


def test_the_sheet_grows_with_a_long_title(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[0]], classes=1)
    write_images(data)
    assert contact_sheet(data, "a long title " * 10).width > contact_sheet(data, "short").width


def test_images_that_cannot_be_decoded_are_passed_over(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[0], [1], [2]], classes=3)
    write_images(data)
    data.images[1].path.write_bytes(b"nothing")
    data.images[2].path.unlink()
    sheet = contact_sheet(data, "one of three")
    tiles = sheet.crop((0, 0, sheet.width, sheet.height - 60))
    assert has_color(tiles, class_color(0))
    assert not has_color(tiles, class_color(1))


def test_a_data_set_of_broken_images_still_gives_a_sheet(tmp_path: Path) -> None:
    assert contact_sheet(dataset(tmp_path, [[0]], classes=1), "none").width > 0


def test_with_more_classes_than_colours_there_is_no_legend(tmp_path: Path) -> None:
    data = dataset(tmp_path, [[]], classes=9)
    write_images(data)
    assert not has_color(contact_sheet(data, "nine"), class_color(1))
    data = dataset(tmp_path, [[]], classes=8)
    assert has_color(contact_sheet(data, "eight"), class_color(1))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a.jpg", "b.jpg"], "contact_sheet.jpg"),
        (["a.png", "b.GIF"], "contact_sheet.png"),
        (["a.png", "b.tif"], "contact_sheet.jpg"),
        (["a.png", "b.png", "c.jpg"], "contact_sheet.png"),
    ],
)
def test_the_sheet_of_photographs_is_a_jpeg(names: list[str], expected: str) -> None:
    data = dataset(Path(), [[0]] * len(names), classes=1)
    images = tuple(replace(image, file_name=name) for image, name in zip(data.images, names, strict=True))
    assert default_file(replace(data, images=ImageTable.of(images))) == Path(expected)


@pytest.mark.parametrize("letter", ["x", "猫", "\u202e", "\n", "\ud800"])
def test_long_and_unprintable_names_leave_the_sheet_its_size(letter: str, tmp_path: Path) -> None:
    data = dataset(tmp_path, [[0], [1]], 2)
    write_images(data)
    usual = contact_sheet(data, "title")
    long = contact_sheet(replace(data, classes=(300_000 * letter, "cat")), 300_000 * letter)
    assert long.height == usual.height
    assert long.width < 10_000
