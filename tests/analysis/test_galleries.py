from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detdistill.analysis.galleries import (
    BARS,
    GAP,
    IMAGE_SIDE,
    MAP_SIDE,
    OBJECT_SIDE,
    SCALE,
    STUDENT,
    TEACHER,
    image_gallery,
    object_gallery,
)
from detdistill.analysis.observation import ImageCase, ObjectCase
from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.data.opening import open_dataset
from detdistill.report.html import Picture
from detdistill.report.page_layout import DESK, PHONE, grid_width, panel_width
from support.small_runs import write_boxes

STRIDES = (8, 16, 32, 64, 128)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> DetectionDataset:
    return open_dataset(write_boxes(tmp_path_factory.mktemp("data"), train=1, val=2), "val")


def image_of(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.content)).convert("RGB")


def maps_case(dataset: DetectionDataset, index: int, *, value: float = 1.0) -> ImageCase:
    record = dataset.images[index]
    levels = [torch.full((-(-record.height // stride), -(-record.width // stride)), value) for stride in STRIDES]
    return ImageCase(index, (record.height, record.width), levels, [0.1 * level for level in levels], STRIDES)


def object_case(dataset: DetectionDataset, own: list[float], other: list[float]) -> ObjectCase:
    record = dataset.images[0]
    box = torch.from_numpy(record.boxes[0]).float()
    scores = torch.tensor(own), torch.tensor(other)
    return ObjectCase(0, int(record.labels[0]), box, 1.5, -0.5, *scores, box, box, 0.75, 0.5)


def test_each_image_has_panels_of_its_own_with_both_maps_of_each_level(dataset: DetectionDataset) -> None:
    panels, (features, predictions) = image_gallery(dataset, [maps_case(dataset, 0), maps_case(dataset, 1, value=0.5)])
    assert len(panels) == 2
    assert (features, predictions) == pytest.approx((1.0, 0.1))
    for one in panels:
        assert one.large_first
        captions = [picture.caption for picture in one.pictures[1:]]
        assert captions == [f"{kind}, stride {stride}" for stride in STRIDES for kind in "FP"]


def test_images_and_maps_are_as_sharp_as_the_page_shows_them(dataset: DetectionDataset) -> None:
    (panels,), _ = image_gallery(dataset, [maps_case(dataset, 0)])
    image, *maps = [image_of(picture) for picture in panels.pictures]
    record = dataset.images[0]
    assert max(image.size) == IMAGE_SIDE >= panel_width(PHONE)
    assert all(max(one.size) == MAP_SIDE >= panel_width(DESK) for one in maps)
    assert all(one.width / one.height == pytest.approx(record.width / record.height, rel=0.02) for one in maps)


def test_values_share_one_scale_over_all_images(dataset: DetectionDataset) -> None:
    panels, _ = image_gallery(dataset, [maps_case(dataset, 0), maps_case(dataset, 1, value=0.0)])
    bright, dark = (np.asarray(image_of(one.pictures[1])).reshape(-1, 3) for one in panels)
    assert (np.abs(bright.astype(int) - SCALE[-1]).sum(axis=1) < 6).mean() > 0.5
    assert (np.abs(dark.astype(int) - SCALE[0]).sum(axis=1) < 6).mean() > 0.5


def test_an_object_is_a_picture_of_its_own_whose_texts_are_its_caption(dataset: DetectionDataset) -> None:
    cases = [object_case(dataset, [0.2, 0.8], [0.9, 0.1]), object_case(dataset, [0.3], [0.4])]
    first, second = object_gallery(dataset, cases)
    name = dataset.classes[int(dataset.images[0].labels[0])]
    assert all(text in first.caption for text in (name, "1.50", "-0.50", "0.75", "0.50", "0.90"))
    assert "0.40" in second.caption
    width, height = image_of(first).size
    assert width == OBJECT_SIDE >= max(grid_width(PHONE), grid_width(DESK))
    assert BARS + GAP < height <= OBJECT_SIDE + BARS + GAP


def test_bars_are_as_high_as_the_scores(dataset: DetectionDataset) -> None:
    (picture,) = object_gallery(dataset, [object_case(dataset, [0.2, 0.8], [0.8, 0.2])])
    bars = np.asarray(image_of(picture)).astype(int)[-BARS:]

    def heights(color: tuple[int, int, int]) -> list[int]:
        same = np.abs(bars - color).sum(axis=2) < 60
        return [int(same[:, side].any(axis=1).sum()) for side in (slice(0, 200), slice(200, 400))]

    teacher, student = heights(TEACHER), heights(STUDENT)
    assert teacher[0] > 3 * teacher[1]
    assert student[1] > 3 * student[0]


def test_a_portrait_image_keeps_its_shape(dataset: DetectionDataset, tmp_path: Path) -> None:
    file = tmp_path / "tall.png"
    Image.new("RGB", (60, 120)).save(file)
    record = replace(dataset.images[0], path=file, file_name="tall.png", width=60, height=120)
    tall = replace(dataset, images=ImageTable.of([record]))
    (panels,), _ = image_gallery(tall, [maps_case(tall, 0)])
    assert panels.heading == "tall.png"
    assert [image_of(picture).size for picture in panels.pictures] == [(260, 520), *[(150, 300)] * 10]
