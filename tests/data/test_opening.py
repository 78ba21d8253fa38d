"""Recognising data sets, and saying which one is meant."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detdistill.core.errors import DataError
from detdistill.data import find_splits, open_dataset
from detdistill.data.opening import open_part
from support.small_datasets import SIZES, coco_content, write_coco, write_images, write_voc, write_yolo


def test_nothing_there_is_an_error_that_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match=r"(?s)COCO.*VOC.*YOLO.*CSV.*notes\.txt, photos/.*--annotations.*data\.train"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("name", ["nowhere", "x" * 6000, "\0"])
def test_a_path_that_is_not_there_is_an_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such"):
        open_dataset(tmp_path / name)


def test_a_file_of_another_kind_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "labels.xlsx").touch()
    with pytest.raises(DataError, match=r"labels\.xlsx.*\.json"):
        open_dataset(tmp_path / "labels.xlsx")


def test_a_text_file_that_lists_nothing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("train.txt").write_text("images/one.png\n")
    with pytest.raises(DataError, match=r"train\.txt"):
        open_dataset("train.txt")


def test_several_formats_in_one_folder_are_listed(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_yolo(tmp_path)
    with pytest.raises(DataError, match=r"(?s)several splits.*COCO.*train\.json.*YOLO.*data\.yaml"):
        open_dataset(tmp_path, "train")
    assert open_dataset(tmp_path, "train", annotations="data.yaml").images[0].image_id == "one"
    assert open_dataset(tmp_path, annotations=tmp_path / "train.json").images[0].image_id == 0


def test_every_split_can_be_named_by_its_annotation_file(tmp_path: Path) -> None:
    for writer in (write_coco, write_voc, write_yolo):
        (tmp_path / writer.__name__).mkdir()
        (split,) = find_splits(writer(tmp_path / writer.__name__))
        for dataset in (open_dataset(split.annotations), open_dataset(tmp_path, annotations=split.annotations)):
            assert len(dataset.images) == len(SIZES)


def test_an_explicit_annotation_file_is_one_split_whatever_its_name(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "odd.json").write_text(json.dumps({**coco_content(), "annotations": []}))
    dataset = open_dataset(tmp_path, "val", annotations="odd.json")
    assert sum(len(image.labels) for image in dataset.images) == 0


def test_an_explicit_image_folder_wins(tmp_path: Path) -> None:
    for writer in (write_coco, write_voc, write_yolo):
        root = tmp_path / writer.__name__
        root.mkdir()
        writer(root)
        write_images(root / "other" / "images", ".png" if writer is write_coco else ".jpg")
        dataset = open_dataset(root, images="other/images")
        assert {image.path.parent for image in dataset.images} == {root / "other" / "images"}


def test_an_explicit_annotation_folder_is_voc(tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "xml").mkdir()
    write_voc(tmp_path / "xml")
    dataset = open_dataset(tmp_path, annotations="xml/Annotations")
    assert dataset.images[0].image_id == "one"


def test_an_explicit_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    write_coco(tmp_path)
    with pytest.raises(DataError, match=r"neither val\.json nor .*val\.json"):
        open_dataset(tmp_path, annotations="val.json")
    with pytest.raises(DataError, match=r"neither photos nor .*photos"):
        open_dataset(tmp_path, images="photos")


def test_paths_may_be_texts_relative_to_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_coco(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert len(open_dataset(".").images) == len(SIZES)
    assert len(open_dataset("train.json", images="images").images) == len(SIZES)


@pytest.mark.parametrize("part", ["odd.json", "other/Annotations", "other/ImageSets/Main/train.txt", "train", None])
def test_a_part_is_a_split_or_an_annotation_file_or_folder(part: str | None, tmp_path: Path) -> None:
    write_coco(tmp_path)
    (tmp_path / "odd.json").write_text(json.dumps(coco_content()))
    if part in ("train", None):
        (tmp_path / "odd.json").unlink()
    (tmp_path / "other").mkdir()
    write_voc(tmp_path / "other")
    assert len(open_part(tmp_path, part).images) == len(SIZES)


def test_a_split_comes_before_a_folder_of_its_name(tmp_path: Path) -> None:
    write_coco(tmp_path)
    write_images(tmp_path / "train")
    assert open_part(tmp_path, "train").images[0].image_id == 0


def test_a_part_that_is_neither_is_an_error(tmp_path: Path) -> None:
    write_coco(tmp_path)
    with pytest.raises(DataError, match="images: holds no annotated dataset"):
        open_part(tmp_path, "images")
    with pytest.raises(DataError, match="no split 'other'"):
        open_part(tmp_path, "other")
