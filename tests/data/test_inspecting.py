from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DataError, DetdistillError
from detdistill.data.inspecting import inspect_parts
from detdistill.data.source import DatasetSource
from support.small_datasets import write_coco, write_voc


def test_each_part_has_numbers_and_a_sheet(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "set")
    (folder / "ImageSets/Main/val.txt").write_text("one\n")
    train, val = inspect_parts(folder, sheet=tmp_path / "sheet.png")
    assert (train.title, val.title) == ("set train", "set val")
    assert train.numbers is not None
    assert str(train.numbers) == "3 images, 4 objects of 2 classes"
    assert [part.sheet for part in (train, val)] == [tmp_path / "sheet_train.png", tmp_path / "sheet_val.png"]
    assert (tmp_path / "sheet_val.png").exists()
    (one,) = inspect_parts(DatasetSource(folder, "val"), sheet=tmp_path / "one.jpg")
    assert one.sheet == tmp_path / "one.jpg"


def test_a_part_that_cannot_be_read_is_told_and_the_rest_goes_on(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "set")
    (folder / "val.json").write_text('{"images": [], "annotations": [], "categories": []}')
    parts = {part.title: part for part in inspect_parts(folder, sheet=tmp_path / "sheet.png")}
    assert [part.dataset is None for part in parts.values()].count(True) == 1
    assert "set train" in parts


@pytest.mark.parametrize("sheet", ["set/images/one.png", "link.png", "sheet.txt", "absent/sheet.png"])
def test_a_sheet_never_replaces_an_image(tmp_path: Path, sheet: str) -> None:
    folder = write_coco(tmp_path / "set")
    (tmp_path / "link.png").symlink_to("set/images/one.png")
    before = (folder / "images/one.png").read_bytes()
    with pytest.raises(DetdistillError, match=sheet):
        list(inspect_parts(folder, sheet=tmp_path / sheet))
    assert (folder / "images/one.png").read_bytes() == before


def test_each_part_is_compared_with_each_of_the_others(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "set")
    (folder / "ImageSets/Main/val.txt").write_text("one\n")
    (tmp_path / "shots").mkdir()
    (tmp_path / "shots/copy.jpg").write_bytes((folder / "JPEGImages/one.jpg").read_bytes())
    (tmp_path / "shots/broken.jpg").write_bytes(b"nothing")
    parts = inspect_parts(folder, sheet=tmp_path / "sheet.png", against=["val", tmp_path / "shots"])
    train, val = ({each.against: each for each in part.comparisons} for part in parts)
    assert [(each["val"].pairs, each["val"].same_files) for each in (train, val)] == [((), 1), ((), 1)]
    for found, title, images in ((train, "set train", 3), (val, "set val", 1)):
        shots = found[str(tmp_path / "shots")]
        assert (shots.title, shots.images, shots.others, shots.others_unreadable) == (title, images, 2, 1)
        assert shots.pairs == (("one.jpg", "copy.jpg"),)


def test_images_without_annotations_are_only_compared(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "set")
    (part,) = inspect_parts(folder / "JPEGImages", sheet=tmp_path / "sheet.png", against=[folder])
    assert (part.dataset, part.sheet, part.problems) == (None, None, ())
    assert [(each.pairs, each.same_files, each.images) for each in part.comparisons] == [((), 3, 3)]
    (pattern,) = inspect_parts(folder / "JPEGImages/t*.jpg", against=[folder])
    assert [each.images for each in pattern.comparisons] == [2]
    with pytest.raises(DataError, match="no annotated dataset"):
        list(inspect_parts(folder / "JPEGImages"))
    with pytest.raises(DataError, match="absent"):
        list(inspect_parts(tmp_path / "absent", against=[folder]))
    with pytest.raises(DataError, match="absent"):
        list(inspect_parts(folder, against=[tmp_path / "absent"]))


def test_a_part_that_cannot_be_read_is_not_compared(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "set")
    (folder / "val.json").write_text('{"images": [], "annotations": [], "categories": []}')
    parts = list(inspect_parts(folder, sheet=tmp_path / "sheet.png", against=["train"]))
    assert sorted(len(part.comparisons) for part in parts) == [0, 1]
    assert all((part.dataset is None) == (not part.comparisons) for part in parts)
