from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.evaluation.evaluating import Evaluation
from detdistill.evaluation.example_images import GAP, example_section
from detdistill.evaluation.results import Results
from detdistill.report.drawing import class_color
from detdistill.report.html import Grid, Picture
from detdistill.report.image_saving import MOST_BYTES
from support.evaluations import boxes_dataset, guessed
from support.small_runs import write_boxes


@pytest.fixture
def evaluation(tmp_path: Path) -> Evaluation:
    return guessed(boxes_dataset(write_boxes(tmp_path, train=1, val=3)))


def pictures(dataset: DetectionDataset, results: Results, threshold: float = 0.0, count: int = 6) -> list[Picture]:
    parts = example_section(dataset, results, [threshold] * len(dataset.classes), count=count).parts
    grids = [part for part in parts if isinstance(part, Grid)]
    return [item for grid in grids for item in grid.items if isinstance(item, Picture)]


def halves(picture: Picture) -> list[np.ndarray]:
    """Upper and lower drawing."""
    pixels = np.asarray(Image.open(io.BytesIO(picture.content))).astype(int)
    height = (len(pixels) - GAP) // 2
    return [pixels[:height], pixels[height + GAP :]]


def test_objects_are_above_and_detections_below(evaluation: Evaluation) -> None:
    first, *_ = pictures(evaluation.dataset, evaluation.results)
    nothing, *_ = pictures(evaluation.dataset, Results.empty())
    (objects, found), (same_objects, plain) = halves(first), halves(nothing)
    assert objects.shape == found.shape
    assert np.abs(objects - same_objects).mean() < 3
    assert np.abs(found - plain).max() > 100
    label = int(evaluation.dataset.images[0].labels[0])
    assert (np.abs(objects - class_color(label)).sum(axis=2) < 60).any()


def test_detections_below_the_threshold_are_not_drawn(evaluation: Evaluation) -> None:
    above, *_ = pictures(evaluation.dataset, evaluation.results, threshold=1.1)
    plain, *_ = pictures(evaluation.dataset, Results.empty())
    assert above.content == plain.content


def test_images_without_objects_come_in_none_and_the_number_is_bounded(tmp_path: Path) -> None:
    dataset = boxes_dataset(write_boxes(tmp_path, train=6, val=1))
    record = dataset.images[0]
    empty = replace(record, boxes=record.boxes[:0], labels=record.labels[:0], areas=record.areas[:0])
    empty = replace(empty, crowd=record.crowd[:0], difficult=record.difficult[:0], file_name="empty.png")
    some = replace(dataset, images=ImageTable.of([empty, record, empty, record, record]))
    assert len(pictures(some, Results.empty())) == 3
    assert len(pictures(some, Results.empty(), count=2)) == 2
    assert all("empty" not in picture.caption for picture in pictures(some, Results.empty()))


def test_images_that_cannot_be_read_are_left_out(evaluation: Evaluation) -> None:
    files = [Path(path) for path in evaluation.dataset.images.paths]
    files[0].write_bytes(b"no image")
    assert len(pictures(evaluation.dataset, evaluation.results)) == 2
    for file in files:
        file.unlink(missing_ok=True)
    assert pictures(evaluation.dataset, evaluation.results) == []
    assert example_section(evaluation.dataset, evaluation.results, [0.0, 0.0]).parts


def test_a_large_image_of_noise_stays_small(tmp_path: Path) -> None:
    file = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (600, 900, 3), np.uint8)).save(file)
    dataset = boxes_dataset(write_boxes(tmp_path / "data", train=1, val=1))
    record = replace(dataset.images[0], path=file, width=900, height=600, file_name="n" * 3000 + ".png")
    (picture,) = pictures(replace(dataset, images=ImageTable.of([record])), Results.empty())
    assert len(picture.content) <= MOST_BYTES
    assert len(picture.caption) < 60
    assert max(Image.open(io.BytesIO(picture.content)).size) <= 2 * 400 + GAP


def test_a_class_name_of_many_letters_does_not_take_long_or_much(tmp_path: Path) -> None:
    dataset = boxes_dataset(write_boxes(tmp_path, train=1, val=1), ("g" * 300_000, "r" * 300_000))
    assert len(pictures(dataset, Results.empty())) == 1
