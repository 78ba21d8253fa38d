"""Annotations that were made for another size of the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detdistill.core.errors import DataError
from detdistill.data import open_dataset
from support.small_datasets import OBJECTS, SIZES, write_coco, write_voc, write_yolo


@pytest.fixture(params=[write_coco, write_voc])
def resized(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A set whose images were made half as high and twice as wide after they were annotated."""
    folder: Path = request.param(tmp_path)
    for stem, (height, width) in SIZES.items():
        (file,) = folder.rglob(f"{stem}.[pj]*g")
        Image.new("RGB", (2 * width, height // 2)).save(file)
    return folder


def test_another_size_is_fatal_and_listed_for_every_image(resized: Path) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(resized)
    assert len(caught.value.problems) == len(SIZES)
    assert {(problem.fatal, problem.unit) for problem in caught.value.problems} == {(True, "image")}
    assert "60x40" in caught.value.problems[0].what
    assert "120x20" in caught.value.problems[0].what
    # They all differ by what is grouped.
    assert len(str(caught.value).splitlines()) == 2


def test_boxes_are_rescaled_on_demand(resized: Path) -> None:
    dataset = open_dataset(resized, rescale=True)
    assert [(image.height, image.width) for image in dataset.images] == [(h // 2, 2 * w) for h, w in SIZES.values()]
    boxes = np.concatenate([image.boxes for image in dataset.images])
    np.testing.assert_allclose(boxes, [np.array(box) * (2, 0.5, 2, 0.5) for _, _, box in OBJECTS])
    factor = 0.5 if (resized / "train.json").exists() else 1  # COCO's own areas are half of the boxes'
    sides = boxes[:, 2:] - boxes[:, :2]
    areas = np.concatenate([image.areas for image in dataset.images])
    np.testing.assert_allclose(areas, factor * sides.prod(axis=1))
    assert [(problem.outcome, problem.unit) for problem in dataset.problems] == [("changed", "image")] * len(SIZES)


@pytest.mark.parametrize("rescale", [False, True])
def test_swapped_width_and_height_are_not_rescaled(rescale: bool, tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    height, width = SIZES["one"]
    Image.new("RGB", (height, width)).save(folder / "images" / "one.png")
    with pytest.raises(DataError) as caught:
        open_dataset(folder, rescale=rescale)
    assert [problem.where.rpartition(" ")[2] for problem in caught.value.problems] == ["0"]


def test_sizes_of_an_image_stored_sideways_are_both_right(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    exif = Image.Exif()
    exif[0x0112] = 6
    for size in (SIZES["one"], SIZES["one"][::-1]):
        Image.new("RGB", size).save(folder / "images" / "one.png", exif=exif)
        image = open_dataset(folder).images[0]
        assert (image.height, image.width) == SIZES["one"]


def test_scoring_detections_needs_no_sizes(resized: Path) -> None:
    images = open_dataset(resized, check_images=False).images
    assert [(image.height, image.width) for image in images] == list(SIZES.values())


def test_an_image_that_cannot_be_opened_is_fatal(tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    (folder / "images" / "two.png").write_bytes(b"nothing")
    with pytest.raises(DataError) as caught:
        open_dataset(folder)
    (problem,) = caught.value.problems
    assert (problem.fatal, problem.unit, problem.where.rpartition(" ")[2]) == (True, "image", "7")


def test_yolo_has_the_files_sizes(tmp_path: Path) -> None:
    folder = write_yolo(tmp_path)
    Image.new("RGB", (120, 20)).save(folder / "images" / "train" / "one.png")
    assert open_dataset(folder, rescale=True).images[0].width == 120
