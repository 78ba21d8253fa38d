"""Names of splits and what they mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data.splits import ReadOptions, Split, choose, names_a_split, usual_name


def splits_of(names: str) -> list[Split]:
    def read(_options: ReadOptions) -> DetectionDataset:
        raise NotImplementedError

    return [Split(name, "COCO", Path(f"{name}.json"), read) for name in names.split()]


@pytest.mark.parametrize(
    ("names", "wanted", "chosen"),
    [
        ("train val", "val", "val"),
        ("train valid test", "val", "valid"),
        ("train val", "valid", "val"),
        ("train validation", "val", "validation"),
        ("train2017 val2017", "train", "train2017"),
        ("train2014 train2017", "train2017", "train2017"),
        ("trainval test", "train", "trainval"),
        ("train trainval test", "train", "train"),
        ("train trainval test", "trainval", "trainval"),
        ("bccd_train bccd_val", "val", "bccd_val"),
        ("Train Test", "test", "Test"),
        ("day night", "night", "night"),
        ("VOC2007/train VOC2007/val", "val", "VOC2007/val"),
        ("VOC2007/test VOC2007/trainval VOC2012/trainval", "test", "VOC2007/test"),
        ("all", None, "all"),
    ],
)
def test_a_name_finds_its_split(names: str, wanted: str | None, chosen: str) -> None:
    assert choose(splits_of(names), wanted, Path("data")).name == chosen


@pytest.mark.parametrize(
    ("names", "wanted", "listed"),
    [
        ("train val", None, ["train", "val"]),
        ("train val", "test", ["train", "val"]),
        ("train", "val", ["train"]),
        ("train2014 train2017", "train", ["train2014", "train2017"]),
        ("train2014", "train2017", ["train2014"]),
        ("VOC2007/trainval VOC2012/trainval", "trainval", ["VOC2007/trainval", "VOC2012/trainval"]),
    ],
)
def test_no_or_several_splits_are_listed(names: str, wanted: str | None, listed: list[str]) -> None:
    with pytest.raises(DataError, match="data: ") as caught:
        choose(splits_of(names), wanted, Path("data"))
    assert [line.split()[0] for line in str(caught.value).split("\n")[1:]] == listed


def test_usual_names_in_file_names() -> None:
    assert all(map(names_a_split, ["train", "bccd_val", "instances_train2017", "Valid-set", "test"]))
    assert not any(map(names_a_split, ["results", "package", "trainer", "contest"]))


@pytest.mark.parametrize(
    ("name", "usual"),
    [
        ("val", ("val", 0)),
        ("valid", ("val", 1)),
        ("train2017", ("train", 0)),
        ("VOC2007/trainval", ("train", 2)),
        ("bccd_test", ("test", 0)),
        ("all", None),
        ("train_val", None),
        ("contest", None),
    ],
)
def test_a_name_means_train_val_or_test(name: str, usual: tuple[str, int] | None) -> None:
    assert usual_name(name) == usual
