"""What is written in any format is read again as the same dataset, as far as the format can hold it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.errors import DetdistillError
from detdistill.data import find_splits, open_dataset
from detdistill.data.writing.dataset import write_dataset
from detdistill.data.writing.losses import Format
from support.written_datasets import dataset_of, image_record

FORMATS: tuple[Format, ...] = ("coco", "voc", "yolo")
SIZES = {"a.png": (40, 60), "sub/b.png": (33, 97), "sub/c.d.jpg": (50, 50), "v.png": (61, 47)}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for name, size in SIZES.items():
        image_record(folder, name, size=size)
    return folder


@st.composite
def objects(draw: st.DrawFn, size: tuple[int, int]) -> dict[str, Any]:
    """Columns of `image_record`; boxes touch the edges or have any number of decimals."""
    columns: dict[str, list[Any]] = {"boxes": [], "labels": [], "crowd": [], "difficult": [], "areas": []}
    for _ in range(draw(st.integers(0, 3))):
        corners = []
        for extent in size[::-1]:
            start = draw(st.one_of(st.integers(0, extent - 1), st.floats(0, extent - 0.5)))
            end = draw(st.one_of(st.just(extent), st.floats(start + 0.1, extent)))
            corners.append((float(start), float(end)))
        (x1, x2), (y1, y2) = corners
        columns["boxes"].append((x1, y1, x2, y2))
        columns["labels"].append(draw(st.integers(0, 2)))
        columns["crowd"].append(draw(st.booleans()))
        columns["difficult"].append(draw(st.booleans()))
        columns["areas"].append(draw(st.floats(1, 100)))
    return columns


def representable(record: ImageRecord, to: Format) -> ImageRecord:
    if to == "coco":
        return record
    kept = ~record.crowd
    boxes = record.boxes[kept]
    difficult = record.difficult[kept]
    return replace(
        record,
        image_id=record.path.stem,
        boxes=boxes,
        labels=record.labels[kept],
        areas=(boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
        crowd=np.zeros(len(boxes), np.bool_),
        difficult=difficult if to == "voc" else np.zeros(len(boxes), np.bool_),
    )


def assert_same(read: DetectionDataset, expected: DetectionDataset, *, ids: bool) -> None:
    assert read.problems == ()
    assert read.classes == expected.classes
    by_name = {record.path.name: record for record in read.images}
    assert sorted(by_name) == sorted(record.path.name for record in expected.images)
    for record in expected.images:
        one = by_name[record.path.name]
        assert one.path.read_bytes() == record.path.read_bytes()
        assert not ids or one.image_id == record.image_id
        assert (one.width, one.height) == (record.width, record.height)
        assert one.labels.tolist() == record.labels.tolist()
        assert one.crowd.tolist() == record.crowd.tolist()
        assert one.difficult.tolist() == record.difficult.tolist()
        np.testing.assert_allclose(one.boxes, record.boxes, atol=1e-4)
        np.testing.assert_allclose(one.areas, record.areas, rtol=1e-3)


def opened(folder: Path) -> dict[str, DetectionDataset]:
    return {split.name: open_dataset(folder, split.name) for split in find_splits(folder)}


@pytest.mark.parametrize("first", FORMATS)
@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_every_pair_of_formats_keeps_what_both_can_hold(
    first: Format, images: Path, tmp_path: Path, data: st.DataObject
) -> None:
    records = [
        image_record(images, name, image_id=number, size=size, **data.draw(objects(size)))
        for number, (name, size) in enumerate(SIZES.items(), start=10)
    ]
    parts = {
        name: dataset_of(*part, source=name, classes=("zebra", "no", "a: b"), ids=(3, 17, 20))
        for name, part in (("train", records[:3]), ("val", records[3:]))
    }
    for to in FORMATS:
        shutil.rmtree(tmp_path / to, ignore_errors=True)
    shutil.rmtree(tmp_path / "first", ignore_errors=True)
    write_dataset(parts, tmp_path / "first", first)
    read = opened(tmp_path / "first")
    once = {
        name: replace(part, images=ImageTable.of(representable(record, first) for record in part.images))
        for name, part in parts.items()
    }
    for name in parts:
        assert_same(read[name], once[name], ids=True)
    for to in FORMATS:
        write_dataset(read, tmp_path / to, to)
        again = opened(tmp_path / to)
        for name, part in once.items():
            twice = replace(part, images=ImageTable.of(representable(record, to) for record in part.images))
            assert_same(again[name], twice, ids=to != "coco" or first == "coco")
            if first == to == "coco":
                assert again[name].category_ids == (3, 17, 20)
                assert [record.file_name for record in again[name].images] == [
                    PurePath(record.file_name).name if name == "val" else record.file_name for record in part.images
                ]


@pytest.mark.parametrize("to", FORMATS)
def test_the_folder_can_be_moved_and_holds_no_links(to: Format, images: Path, tmp_path: Path) -> None:
    part = dataset_of(image_record(images, "a.png", [(1, 2, 3, 4)]))
    write_dataset({"train": part}, tmp_path / "out", to)
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert not any(path.is_symlink() for path in moved.rglob("*"))
    assert str(tmp_path) not in "".join(
        path.read_text() for path in moved.rglob("*") if path.suffix in (".json", ".yaml", ".txt", ".xml")
    )
    read = opened(moved)
    assert list(read) == ["train"]
    np.testing.assert_allclose(read["train"].images[0].boxes, [(1, 2, 3, 4)], atol=1e-6)


@pytest.mark.parametrize("to", FORMATS)
def test_hard_links_are_read_as_the_images(to: Format, images: Path, tmp_path: Path) -> None:
    part = dataset_of(image_record(images, "a.png", [(1, 2, 3, 4)]))
    write_dataset({"train": part}, tmp_path / "out", to, link=True)
    (record,) = open_dataset(tmp_path / "out").images
    assert record.path.samefile(images / "a.png")


@pytest.mark.parametrize("to", FORMATS)
def test_an_image_in_several_parts_takes_space_once(to: Format, images: Path, tmp_path: Path) -> None:
    record = image_record(images, "a.png", [(1, 2, 3, 4)])
    parts = {"train": dataset_of(record, source="train"), "val": dataset_of(record, source="val")}
    write_dataset(parts, tmp_path / "out", to)
    read = [part.images[0] for part in opened(tmp_path / "out").values()]
    assert read[0].path.samefile(read[1].path)
    assert not read[0].path.samefile(images / "a.png")
    assert read[0].image_id == read[1].image_id


@pytest.mark.parametrize("to", FORMATS)
def test_a_failure_leaves_nothing(to: Format, images: Path, tmp_path: Path) -> None:
    gone = replace(image_record(images, "a.png"), path=images / "gone.png", file_name="gone.png")
    with pytest.raises(DetdistillError, match=r"gone\.png"):
        write_dataset({"train": dataset_of(image_record(images, "a.png"), gone)}, tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.parametrize("name", ["../escaped.png", "sub/../../escaped.png", "/escaped.png"])
def test_a_name_that_leaves_the_folder_is_refused(to: Format, name: str, images: Path, tmp_path: Path) -> None:
    record = replace(image_record(images, "a.png", image_id=77), file_name=name)
    with pytest.raises(DetdistillError, match="77"):
        write_dataset({"train": dataset_of(record)}, tmp_path / "out", to)
    assert list(tmp_path.iterdir()) == []


def test_parts_with_other_classes_share_one_list(images: Path, tmp_path: Path) -> None:
    one, other = (image_record(images, name, [(1, 2, 3, 4)], size=SIZES[name]) for name in ("a.png", "v.png"))
    parts = {
        "train": dataset_of(one, source="a", classes=["cat"], ids=[1]),
        "val": dataset_of(other, source="b", classes=["ant"], ids=[1]),
    }
    for to in FORMATS:
        write_dataset(parts, tmp_path / to, to)
        read = opened(tmp_path / to)
        assert [part.classes for part in read.values()] == [("ant", "cat")] * 2
        assert {name: part.images[0].labels.tolist() for name, part in read.items()} == {"train": [1], "val": [0]}


def test_renamed_images_are_counted(tmp_path: Path) -> None:
    records = [image_record(tmp_path / "more", name) for name in ("x/same.png", "y/same.png", "y/other.png")]
    written = write_dataset({"train": dataset_of(*records)}, tmp_path / "out", "voc")
    assert len(written.warnings) == 1
    assert "2 images" in written.warnings[0]
    assert "x/same.png" in written.warnings[0]
    assert mapping_of_stems(opened(tmp_path / "out")) == {"train": ["x_same", "y_same", "other"]}


def mapping_of_stems(parts: Mapping[str, DetectionDataset]) -> dict[str, list[str]]:
    return {name: [record.path.stem for record in part.images] for name, part in parts.items()}


def test_blood_cells_keep_their_boxes_over_three_formats(photographs: Path, tmp_path: Path) -> None:
    source = open_dataset(photographs / "bccd_voc", "test")
    parts = {"test": replace(source, images=source.images[:25])}
    for to in ("coco", "yolo", "voc"):
        write_dataset(parts, tmp_path / to, to)
        parts = opened(tmp_path / to)
    assert list(parts) == ["test"]
    for one, other in zip(parts["test"].images, source.images[:25], strict=True):
        assert one.image_id == other.image_id
        assert one.labels.tolist() == other.labels.tolist()
        assert np.abs(one.boxes - other.boxes).max(initial=0) < 0.01


def test_photographs_of_coco_keep_ids_areas_and_crowds(photographs: Path, tmp_path: Path) -> None:
    source = open_dataset(photographs / "coco256", "val")
    crowded = [record for record in source.images if record.crowd.any()]
    part = replace(source, images=ImageTable.of([*source.images[:15], *crowded]))
    part = replace(part, images=ImageTable.of({record.image_id: record for record in part.images}.values()))
    assert crowded
    write_dataset({"val2017": part}, tmp_path / "out", "coco")
    read = open_dataset(tmp_path / "out", "val")
    assert (read.classes, read.category_ids) == (source.classes, source.category_ids)
    for one, other in zip(read.images, part.images, strict=True):
        assert (one.image_id, one.file_name) == (other.image_id, other.file_name)
        assert np.array_equal(one.areas, other.areas)
        assert np.array_equal(one.crowd, other.crowd)
