"""File names of written images: safe, unique and short."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data.writing.naming import Part, safe_part_names, with_coco_names, with_voc_names, with_yolo_names
from support.written_datasets import dataset_of, image_record


def part(folder: Path, *names: str, source: str = "source") -> DetectionDataset:
    return dataset_of(*(image_record(folder, name) for name in names), source=source)


def files(parts: list[Part]) -> dict[str, list[str]]:
    return {part.name: [str(file) for file in part.files] for part in parts}


def test_folders_that_all_images_have_in_common_are_dropped(tmp_path: Path) -> None:
    parts = {
        "train": part(tmp_path, "images/train/x/1.png", "images/train/2.png", source="yaml: train"),
        "val": part(tmp_path, "images/val/y/3.png", "images/val/y/4.png", source="yaml: val"),
    }
    expected = {"train": ["x/1.png", "2.png"], "val": ["3.png", "4.png"]}
    assert files(with_coco_names(parts)) == files(with_yolo_names(parts)) == expected


def test_parts_of_one_source_drop_the_same_folders(tmp_path: Path) -> None:
    parts = {"train": part(tmp_path, "x/1.png", "y/2.png"), "val": part(tmp_path, "x/3.png")}
    assert files(with_coco_names(parts)) == {"train": ["x/1.png", "y/2.png"], "val": ["x/3.png"]}


def test_coco_keeps_names_that_differ_in_their_endings_only(tmp_path: Path) -> None:
    names = ["a.png", "a.jpg", "b"]
    assert files(with_coco_names({"all": part(tmp_path, *names)})) == {"all": names}


def test_a_file_with_two_ids_is_one_file_in_coco_and_two_elsewhere(tmp_path: Path) -> None:
    one = image_record(tmp_path, "a.png", image_id=1)
    parts = {"all": dataset_of(one, replace(one, image_id=2))}
    assert files(with_coco_names(parts)) == {"all": ["a.png", "a.png"]}
    assert files(with_yolo_names(parts)) == files(with_voc_names(parts)) == {"all": ["a.png", "a_2.png"]}


def test_yolo_needs_unique_stems_in_each_subfolder(tmp_path: Path) -> None:
    named = with_yolo_names({"train": part(tmp_path, "a.png", "a.jpg", "x/a.png", "a_2.png", "a.bmp")})
    assert files(named) == {"train": ["a.png", "a_3.jpg", "x/a.png", "a_2.png", "a_4.bmp"]}


def test_yolo_has_no_subfolder_called_images(tmp_path: Path) -> None:
    named = with_yolo_names({"train": part(tmp_path, "x/images/1.png", "y/images/2.png", "3.png")})
    assert files(named) == {"train": ["x/1.png", "y/2.png", "3.png"]}


def test_voc_has_one_folder_and_names_subfolders_where_stems_collide(tmp_path: Path) -> None:
    parts = {
        "train": part(tmp_path, "x/a.png", "y/a.jpg", "z/b.png", source="1"),
        "val": part(tmp_path, "w/a.png", "b.jpg", source="2"),
    }
    assert files(with_voc_names(parts)) == {"train": ["x_a.png", "y_a.jpg", "z_b.png"], "val": ["w_a.png", "b.jpg"]}


def test_voc_names_an_image_once_for_each_set_of_objects(tmp_path: Path) -> None:
    one = image_record(tmp_path, "a.png", [(1, 2, 3, 4)])
    other = image_record(tmp_path, "a.png", [(1, 2, 3, 5)])
    parts = {"train": dataset_of(one), "trainval": dataset_of(one), "val": dataset_of(other)}
    assert files(with_voc_names(parts)) == {"train": ["a.png"], "trainval": ["a.png"], "val": ["a_2.png"]}


def test_voc_stems_hold_no_white_space(tmp_path: Path) -> None:
    named = with_voc_names({"train": part(tmp_path, "my image.png", "my\u00a0image.png")})
    assert files(named) == {"train": ["my_image.png", "my_image_2.png"]}


def test_an_ending_is_added_where_readers_need_one(tmp_path: Path) -> None:
    parts = {"train": part(tmp_path, "frame", "b.PNG")}
    assert files(with_yolo_names(parts)) == files(with_voc_names(parts)) == {"train": ["frame.png", "b.PNG"]}


def test_characters_that_no_text_file_holds_are_replaced(tmp_path: Path) -> None:
    record = replace(image_record(tmp_path, "a.png"), file_name="a\nb\udcff.png")
    for named in (with_coco_names, with_yolo_names, with_voc_names):
        assert files(named({"train": dataset_of(record)})) == {"train": ["a_b_.png"]}


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "/a.png", ".", ""])
def test_names_outside_the_folder_are_refused_with_the_image(name: str, tmp_path: Path) -> None:
    record = replace(image_record(tmp_path, "a.png", image_id=77), file_name=name)
    with pytest.raises(DataError) as caught:
        with_coco_names({"train": dataset_of(record)})
    assert [problem.where for problem in caught.value.problems] == ["source: image 77"]


def test_part_names_become_file_names(tmp_path: Path) -> None:
    one = part(tmp_path, "a.png")
    names = ["VOC2007/train", "..", "../../etc", "Übung 1"]
    assert list(safe_part_names({names[0]: one, names[2]: one, names[3]: one})) == [
        "VOC2007_train",
        "_.._etc",
        "Übung_1",
    ]
    with pytest.raises(DataError):
        safe_part_names({names[1]: one})
    with pytest.raises(DataError):
        safe_part_names({"a/b": one, "a_b": one})


def test_names_stay_relative(tmp_path: Path) -> None:
    for file in with_coco_names({"train": part(tmp_path, "./x//1.png", "2.png")})[0].files:
        assert not file.is_absolute()
        assert isinstance(file, PurePosixPath)
