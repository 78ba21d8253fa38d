"""YOLO folders as other tools expect them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import ExifTags, Image

from detdistill.core.errors import DataError
from detdistill.core.images import read_image
from detdistill.data import open_dataset
from detdistill.data.writing.dataset import write_dataset
from support.written_datasets import dataset_of, image_record


def test_the_layout_is_the_usual_one(tmp_path: Path) -> None:
    train = dataset_of(
        image_record(tmp_path / "images", "x/a.png", [(0, 0, 60, 40), (15, 10, 30, 20)], labels=[1, 0]),
        image_record(tmp_path / "images", "b.png"),
    )
    out = tmp_path / "out"
    write_dataset({"train": train, "val": dataset_of(image_record(tmp_path / "images", "c.jpg"))}, out, "yolo")
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "data.yaml",
        "images/train/b.png",
        "images/train/x/a.png",
        "images/val/c.jpg",
        "labels/train/b.txt",
        "labels/train/x/a.txt",
        "labels/val/c.txt",
    ]
    assert (out / "labels/train/x/a.txt").read_text() == "1 0.5 0.5 1 1\n0 0.375 0.375 0.25 0.25\n"
    assert (out / "labels/train/b.txt").read_text() == ""
    # No `path`: tools then take the folder of the file.
    assert yaml.safe_load((out / "data.yaml").read_text()) == {
        "train": "images/train",
        "val": "images/val",
        "nc": 2,
        "names": {0: "cat", 1: "dog"},
    }


def test_class_names_stay_texts(tmp_path: Path) -> None:
    names = ["no", "1", "null", "a: b # c", "猫 🐈", " x ", "line\nbreak"]
    write_dataset(
        {"train": dataset_of(image_record(tmp_path / "images", "a.png"), classes=names, ids=range(1, 8))},
        tmp_path / "out",
        "yolo",
    )
    assert open_dataset(tmp_path / "out").classes == tuple(names)
    written = yaml.safe_load((tmp_path / "out/data.yaml").read_text(encoding="utf-8"))
    assert list(written["names"].values()) == names


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("upright", [True, False])
def test_boxes_follow_the_orientation_that_readers_apply(orientation: int, upright: bool, tmp_path: Path) -> None:
    """A bright rectangle on black is in its box, whichever size the annotations were made for."""
    stored = Image.new("RGB", (64, 32))
    stored.paste((255, 255, 255), (8, 16, 24, 20))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    (tmp_path / "images").mkdir()
    stored.save(tmp_path / "images/a.png", exif=exif)
    sideways = orientation > 4
    # With equal sizes only the upright image is meant.
    size = (64, 32) if sideways and upright else (32, 64)
    bright = read_image(tmp_path / "images/a.png", size)[..., 0] > 0
    rows, columns = np.flatnonzero(bright.any(axis=1)), np.flatnonzero(bright.any(axis=0))
    box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    write_dataset(
        {"train": dataset_of(image_record(tmp_path / "images", "a.png", [box], size=size))}, tmp_path / "out", "yolo"
    )
    (record,) = open_dataset(tmp_path / "out").images
    pixels = read_image(record.path)[..., 0] > 0
    x1, y1, x2, y2 = np.round(record.boxes[0]).astype(int)
    assert (record.height, record.width) == pixels.shape
    assert pixels[y1:y2, x1:x2].all()
    assert pixels.sum() == (x2 - x1) * (y2 - y1) == 64


def test_images_of_another_size_are_listed(tmp_path: Path) -> None:
    image_record(tmp_path / "images", "a.png", size=(20, 20))
    records = [image_record(tmp_path / "images", name, image_id=name, size=(40, 60)) for name in ("a.png", "b.png")]
    with pytest.raises(DataError) as caught:
        write_dataset({"train": dataset_of(*records)}, tmp_path / "out", "yolo")
    assert [problem.where for problem in caught.value.problems] == ["source: image 'a.png'"]
    assert not (tmp_path / "out").exists()
