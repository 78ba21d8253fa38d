"""Columns of images give back the records that they were made of."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable


def record(image_id: int | str, objects: int, size: tuple[int, int] = (30, 40)) -> ImageRecord:
    return ImageRecord(
        image_id=image_id,
        path=Path(f"/photos/{image_id}.jpg"),
        file_name=f"{image_id}.jpg",
        width=size[1],
        height=size[0],
        boxes=np.arange(4.0 * objects).reshape(-1, 4),
        labels=np.arange(objects) % 3,
        areas=np.arange(objects, dtype=np.float64) + 0.5,
        crowd=np.arange(objects) % 2 == 0,
        difficult=np.arange(objects) % 3 == 0,
    )


records = st.lists(st.builds(record, st.integers() | st.text(min_size=1, max_size=5), st.integers(0, 4)), max_size=8)


def assert_same(one: ImageRecord, other: ImageRecord) -> None:
    for field in fields(ImageRecord):
        mine, theirs = getattr(one, field.name), getattr(other, field.name)
        if isinstance(mine, np.ndarray):
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype
        else:
            assert (mine, type(mine)) == (theirs, type(theirs))


@given(records, st.data())
def test_records_come_back(given_records: list[ImageRecord], data: st.DataObject) -> None:
    table = ImageTable.of(given_records)
    assert len(table) == len(given_records)
    for one, other in zip(table, given_records, strict=True):
        assert_same(one, other)
    assert table.image_ids == [each.image_id for each in given_records]
    assert table.counts.tolist() == [len(each.labels) for each in given_records]
    assert table.image_of_object.tolist() == [i for i, each in enumerate(given_records) for _ in each.labels]
    if given_records:
        chosen = data.draw(st.lists(st.integers(0, len(given_records) - 1)))
        for one, index in zip(table.take(chosen), chosen, strict=True):
            assert_same(one, given_records[index])


def test_a_slice_is_a_table_and_an_index_counts_from_the_end_too() -> None:
    table = ImageTable.of([record(number, number) for number in range(4)])
    assert table[1:3].image_ids == [1, 2]
    assert table[::-1].image_ids == [3, 2, 1, 0]
    assert_same(table[-1], record(3, 3))


def test_distinct_sizes_are_those_of_the_images() -> None:
    sizes = [(30, 40), (40, 30), (30, 40), (1, 10**9)]
    distinct, index = ImageTable.of([record(n, 0, size) for n, size in enumerate(sizes)]).distinct_sizes
    assert [distinct[i] for i in index] == sizes
    assert len(distinct) == 3


@given(records)
def test_the_fingerprint_is_that_of_the_records(given_records: list[ImageRecord]) -> None:
    digest = hashlib.sha256(json.dumps(("a", "b", "c")).encode())
    for each in given_records:
        digest.update(json.dumps([each.file_name, each.height, each.width, len(each.labels)]).encode())
        for column in (each.boxes, each.labels.astype(np.int64), each.crowd, each.difficult):
            digest.update(column.tobytes())
    dataset = DetectionDataset("x", ("a", "b", "c"), (1, 2, 3), ImageTable.of(given_records))
    assert dataset.fingerprint == digest.hexdigest()


def test_the_fingerprint_does_not_change_with_the_version() -> None:
    dataset = DetectionDataset("x", ("a", "b", "c"), (1, 2, 3), ImageTable.of([record(1, 2), record("b", 3)]))
    assert dataset.fingerprint == "002f731843a4e004588f4a58300a0a7eb7b1ffd236902e6592a1b7c86455e3cc"
    assert replace(dataset, source="y").fingerprint == dataset.fingerprint
    assert replace(dataset, classes=("a", "b", "d")).fingerprint != dataset.fingerprint


@given(records, st.data())
def test_joined_tables_are_those_of_the_joined_records(given_records: list[ImageRecord], data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(given_records)))
    parts = [ImageTable.of(given_records[:cut]), ImageTable.of(given_records[cut:])]
    joined = ImageTable.joined(parts)
    assert len(joined) == len(given_records)
    for one, other in zip(joined, ImageTable.of(given_records), strict=True):
        assert_same(one, other)
    dataset = DetectionDataset("boxes", ("a", "b", "c"), (1, 2, 3), joined, num_labelled=cut)
    for part, table in zip(dataset.parts, parts, strict=True):
        assert part.fingerprint == replace(dataset, images=table, num_labelled=None).fingerprint
    assert replace(dataset, num_labelled=None).parts[0].fingerprint != dataset.fingerprint
