"""COCO folders as other tools expect them, and annotations beside the images of another folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.data import open_dataset
from detdistill.data.writing.coco_writer import write_coco_beside
from detdistill.data.writing.dataset import write_dataset
from detdistill.data.writing.losses import Format
from support.written_datasets import dataset_of, image_record

COLUMNS = ("boxes", "labels", "areas", "crowd", "difficult")


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, DetectionDataset]:
    folder = tmp_path / "photographs"
    flags = {"crowd": [False, True], "difficult": [True, False], "areas": [321.5, 20.0], "labels": [0, 1]}
    boxes = [(5, 10.25, 45, 35), (0.1, 0.2, 60, 40)]
    records = [
        image_record(folder, f"{number}.png", boxes, image_id=100 + number, **flags)  # type: ignore[arg-type]
        for number in range(4)
    ]
    return {"train": dataset_of(*records[:3], ids=(3, 8)), "val": dataset_of(records[3], ids=(3, 8))}


def content(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def assert_equal(read: DetectionDataset, part: DetectionDataset) -> None:
    assert (read.classes, read.category_ids, read.problems) == (part.classes, part.category_ids, ())
    for one, other in zip(read.images, part.images, strict=True):
        assert (one.image_id, one.file_name) == (other.image_id, other.file_name)
        assert (one.width, one.height) == (other.width, other.height)
        for column in COLUMNS:
            np.testing.assert_allclose(getattr(one, column), getattr(other, column), rtol=1e-12)


def test_the_layout_is_the_usual_one(parts: dict[str, DetectionDataset], tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_dataset(parts, out, "coco")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "annotations/instances_train.json",
        "annotations/instances_val.json",
        "images/train/0.png",
        "images/train/1.png",
        "images/train/2.png",
        "images/val/3.png",
    ]
    val = content(out / "annotations/instances_val.json")
    assert val["images"] == [{"id": 103, "file_name": "3.png", "width": 60, "height": 40}]
    assert val["annotations"][0] == {
        "id": 1,
        "image_id": 103,
        "category_id": 3,
        "bbox": [5.0, 10.25, 40.0, 24.75],
        "area": 321.5,
        "iscrowd": 0,
        "difficult": 1,
    }
    assert [entry["id"] for entry in val["annotations"]] == [1, 2]
    assert val["annotations"][1]["iscrowd"] == 1
    assert val["categories"] == [{"id": 3, "name": "cat"}, {"id": 8, "name": "dog"}]


def test_annotations_beside_the_images_read_as_the_same_data(
    parts: dict[str, DetectionDataset], tmp_path: Path
) -> None:
    write_coco_beside(parts, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["images", "train.json", "val.json"]
    for name, part in parts.items():
        read = open_dataset(tmp_path / "out", name)
        assert_equal(read, part)
        for one, other in zip(read.images, part.images, strict=True):
            assert one.path.samefile(other.path)


def test_images_without_numbers_are_numbered_over_all_parts(tmp_path: Path) -> None:
    records = [image_record(tmp_path / year, f"{n}.png") for year in ("2007", "2012") for n in range(3)]
    named = {"train": dataset_of(*records[:4]), "val": dataset_of(*records[4:])}
    write_coco_beside(named, tmp_path / "out")
    images = [image for name in named for image in content(tmp_path / f"out/{name}.json")["images"]]
    assert [image["id"] for image in images] == [1, 2, 3, 4, 5, 6]
    assert [image["file_name"] for image in images] == [f"{y}/{n}.png" for y in ("2007", "2012") for n in range(3)]
    assert all((tmp_path / "out" / "images" / image["file_name"]).is_file() for image in images)


def test_a_file_under_two_ids_keeps_both(parts: dict[str, DetectionDataset], tmp_path: Path) -> None:
    again = replace(parts["train"].images[1], image_id=999, labels=np.array([1, 1]))
    twice = {**parts, "val": dataset_of(*parts["val"].images, again, ids=(3, 8))}
    write_coco_beside(twice, tmp_path / "beside")
    write_dataset(twice, tmp_path / "whole", "coco")
    for out in ("beside", "whole"):
        images = [image for name in twice for image in open_dataset(tmp_path / out, name).images]
        labels = {image.image_id: image.labels.tolist() for image in images if image.file_name == again.file_name}
        assert labels == {101: [0, 1], 999: [1, 1]}


def test_an_existing_folder_is_left_alone(parts: dict[str, DetectionDataset], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DetdistillError, match="exists already"):
        write_coco_beside(parts, tmp_path / "out")
    with pytest.raises(DetdistillError, match="exists already"):
        write_dataset(parts, tmp_path / "out", "coco")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_dataset_without_classes_is_refused(tmp_path: Path) -> None:
    empty = dataset_of(image_record(tmp_path / "images", "a.png"), classes=(), ids=())
    formats: tuple[Format, ...] = ("coco", "yolo")
    for to in formats:
        with pytest.raises(DetdistillError, match="class"):
            write_dataset({"train": empty}, tmp_path / "out", to)
        assert not (tmp_path / "out").exists()
