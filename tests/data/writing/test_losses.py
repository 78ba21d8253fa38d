"""What a format cannot hold is counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.data.writing.losses import Format, losses, without_crowd
from support.written_datasets import dataset_of, image_record


@pytest.mark.parametrize(
    ("to", "expected"),
    [
        ("coco", ["2 objects: PASCAL VOC's flag"]),
        ("voc", ["1 crowd region", "1 object: the annotated area", "category ids", "image ids"]),
        (
            "yolo",
            ["1 crowd region", "2 objects: the flag", "1 object: the annotated area", "category ids", "image ids"],
        ),
    ],
)
def test_each_loss_is_counted(to: Format, expected: list[str], tmp_path: Path) -> None:
    boxes = [(0, 0, 10, 10)] * 4
    columns = {"crowd": [1, 0, 0, 0], "difficult": [0, 1, 1, 0], "areas": [50, 50, 100, 100.5]}
    record = image_record(tmp_path, "a.png", boxes, image_id=3, **columns)  # type: ignore[arg-type]
    warnings = losses([dataset_of(record, ids=(3, 17))], to)
    assert len(warnings) == len(expected)
    for warning, start in zip(warnings, expected, strict=True):
        assert warning.startswith(start)


@pytest.mark.parametrize("to", ["coco", "voc", "yolo"])
def test_plain_objects_lose_nothing(to: Format, tmp_path: Path) -> None:
    assert losses([dataset_of(image_record(tmp_path, "a.png", [(0, 0, 10, 10)]))], to) == []


def test_ids_that_are_no_numbers_and_no_names_are_lost_in_coco(tmp_path: Path) -> None:
    records = [image_record(tmp_path, "x/a.png", image_id=image_id) for image_id in (7, "a", "x/a", "k17")]
    assert losses([dataset_of(records[0])], "coco") == losses([dataset_of(*records[1:3])], "coco") == []
    assert len(losses([dataset_of(*records[:2])], "coco")) == len(losses([dataset_of(records[3])], "coco")) == 1


def test_crowd_regions_leave_every_column(tmp_path: Path) -> None:
    boxes = [(0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3)]
    record = image_record(tmp_path, "a.png", boxes, crowd=[False, True, False], labels=[0, 1, 1])
    (kept,) = without_crowd(dataset_of(record)).images
    assert kept.boxes[:, 2].tolist() == [1, 3]
    assert kept.labels.tolist() == [0, 1]
    assert kept.areas.tolist() == [1, 9]
    assert len(kept.crowd) == len(kept.difficult) == 2
