"""PASCAL VOC folders as other tools expect them."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import parse

import pytest

from detdistill.core.errors import DataError
from detdistill.data import open_dataset
from detdistill.data.writing.dataset import write_dataset
from support.written_datasets import dataset_of, image_record


def test_the_layout_is_the_usual_one(tmp_path: Path) -> None:
    boxes = [(0, 0, 60, 40), (1.5, 2.25, 10, 20.125)]
    record = image_record(tmp_path / "images", "x/a.b.png", boxes, labels=[1, 0], difficult=[False, True])
    out = tmp_path / "out"
    write_dataset(
        {"train": dataset_of(record), "val": dataset_of(image_record(tmp_path / "images", "c.jpg"))}, out, "voc"
    )
    assert sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()) == [
        "Annotations/a.b.xml",
        "Annotations/c.xml",
        "ImageSets/Main/train.txt",
        "ImageSets/Main/val.txt",
        "JPEGImages/a.b.png",
        "JPEGImages/c.jpg",
        "labelmap.txt",
    ]
    assert (out / "ImageSets/Main/train.txt").read_text() == "a.b\n"
    root = parse(out / "Annotations/a.b.xml").getroot()
    assert [root.findtext(path) for path in ("filename", "size/width", "size/height", "size/depth")] == [
        "a.b.png",
        "60",
        "40",
        "3",
    ]
    assert [element.findtext("name") for element in root.findall("object")] == ["dog", "cat"]
    assert [element.findtext("difficult") for element in root.findall("object")] == ["0", "1"]
    assert [[corner.text for corner in element] for element in root.findall("object/bndbox")] == [
        ["1", "1", "60", "40"],
        ["2.5", "3.25", "10", "20.125"],
    ]
    assert parse(out / "Annotations/c.xml").getroot().findall("object") == []


def test_names_of_other_scripts_and_markup_are_kept(tmp_path: Path) -> None:
    names = ["<b>&'\"", "猫 🐈", "#1", "background", "traffic light"]
    record = image_record(tmp_path / "images", "Bär & <Co>.png", [(1, 2, 3, 4)] * 5, labels=range(5))
    write_dataset({"train": dataset_of(record, classes=names, ids=range(1, 6))}, tmp_path / "out", "voc")
    read = open_dataset(tmp_path / "out")
    assert read.classes == tuple(names)
    assert read.images[0].labels.tolist() == [0, 1, 2, 3, 4]
    assert read.images[0].file_name == "Bär_&_<Co>.png"
    assert read.problems == ()


@pytest.mark.parametrize("name", [" cat", "cat\n", "a\x01b", "a\u2028b", "a\ufffeb"])
def test_class_names_that_xml_cannot_keep_are_refused(name: str, tmp_path: Path) -> None:
    dataset = dataset_of(image_record(tmp_path / "images", "a.png"), classes=["dog", name])
    with pytest.raises(DataError, match="class"):
        write_dataset({"train": dataset}, tmp_path / "out", "voc")
    assert not (tmp_path / "out").exists()
