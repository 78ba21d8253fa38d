"""Splits of any names become train, val and test."""

from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data.writing.yolo_parts import yolo_parts
from support.written_datasets import dataset_of, image_record


def parts_of(folder: Path, **names: str) -> dict[str, DetectionDataset]:
    """Each part's images, by the letters of their names."""
    return {
        name: dataset_of(*(image_record(folder, f"{letter}.png") for letter in letters), source=name)
        for name, letters in names.items()
    }


def test_usual_names_are_kept_in_the_usual_order(tmp_path: Path) -> None:
    parts, warnings = yolo_parts(parts_of(tmp_path, test="a", val="b", train="c"))
    assert list(parts) == ["train", "val", "test"]
    assert warnings == []


def test_other_usual_names_are_replaced_and_reported(tmp_path: Path) -> None:
    parts, warnings = yolo_parts(parts_of(tmp_path, valid="a", train2017="b"))
    assert {name: part.source for name, part in parts.items()} == {"train": "train2017", "val": "valid"}
    assert len(warnings) == 2


def test_a_part_that_the_others_hold_is_left_out_and_reported(tmp_path: Path) -> None:
    parts, (warning,) = yolo_parts(parts_of(tmp_path, trainval="abc", train="ab", val="c"))
    assert {name: part.source for name, part in parts.items()} == {"train": "train", "val": "val"}
    assert "'trainval'" in warning


def test_a_part_with_images_of_its_own_is_not_left_out(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'trainval'"):
        yolo_parts(parts_of(tmp_path, trainval="abcd", train="ab", val="c"))


@pytest.mark.parametrize("name", ["all", "day", "trainval"])
def test_a_single_part_becomes_train(name: str, tmp_path: Path) -> None:
    parts, warnings = yolo_parts(parts_of(tmp_path, **{name: "a"}))
    assert list(parts) == ["train"]
    assert any(f"'{name}'" in warning for warning in warnings)
    assert any("val" in warning for warning in warnings)


def test_names_that_mean_nothing_are_refused_beside_others(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'night'"):
        yolo_parts(parts_of(tmp_path, train="a", night="b"))
