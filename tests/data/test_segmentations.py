from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as reference

from detdistill.core.rle import bitmap_of, rle_of_bitmap
from detdistill.data import annotation_cache, open_dataset
from detdistill.data.segmentations import read_segmentation

SIZE = (30, 40)
SQUARE = [4, 6, 14, 6, 14, 16, 4, 16]
RECTANGLE = np.zeros(SIZE, np.uint8)
RECTANGLE[6:16, 4:14] = 1
RLE = {"size": [30, 40], "counts": rle_of_bitmap(RECTANGLE)}
LIST_RLE = {"size": [30, 40], "counts": [126, *[10, 20] * 9, 10, 1200 - 126 - 9 * 30 - 10]}


@pytest.mark.parametrize("value", [[SQUARE], RLE, LIST_RLE])
def test_polygons_and_both_kinds_of_rle(value: Any) -> None:
    read = read_segmentation(value, SIZE)
    assert read.faults == ()
    np.testing.assert_array_equal(bitmap_of(read.rle, SIZE), RECTANGLE)


def test_parts_of_an_object_are_one_mask() -> None:
    other = [20, 20, 26, 20, 26, 28]
    read = read_segmentation([SQUARE, other], SIZE)
    expected = reference.decode(reference.merge(reference.frPyObjects([SQUARE, other], *SIZE)))
    np.testing.assert_array_equal(bitmap_of(read.rle, SIZE), expected)


@pytest.mark.parametrize("value", [None, [], {}])
def test_no_mask_is_no_fault(value: Any) -> None:
    read = read_segmentation(value, SIZE)
    assert (read.rle, read.faults) == ("", ())


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (7, "must be polygons"),
        ("[[1, 2]]", "must be polygons"),
        ([["1", 2, 3, 4, 5, 6]], "must be polygons"),
        ([[1, 2], "x"], "must be polygons"),
        ([[1, 2, 3, 4]], "no polygon is left"),
        ([[1, 2, 3, 4, 5, 6, 7]], "half a point"),
        ([[1e8, 2, 3, 4, 5, 6]], "far outside"),
        ([[1, 1, 1, 1, 1, 1]], "no pixel"),
        ([[100, 100, 60, 60, 70, 65]], "far outside"),
        ({"size": [30, 40]}, "does not decode"),
        ({"counts": "abc"}, "must be polygons"),
        ({"size": [30, 41], "counts": RLE["counts"]}, "another size"),
        ({"size": [40, 30], "counts": RLE["counts"]}, "another size"),
        ({"size": [30, 40], "counts": "zz"}, "does not decode"),
        ({"size": [30, 40], "counts": [1200, -3, 3]}, "does not decode"),
        ({"size": [30, 40], "counts": [12, "a"]}, "does not decode"),
        ({"size": [30, 40], "counts": [1200]}, "no pixel"),
        ({"size": [30, 40], "counts": [0, 0, 1200]}, "no pixel"),
        ({"size": [30, 40], "counts": "`U10"}, "no pixel"),
        ([[10**400, 2, 3, 4, 5, 6]], "far outside"),
        ({"size": "30x40", "counts": [1200]}, "must be polygons"),
    ],
)
def test_what_is_no_mask_is_none(value: Any, part: str) -> None:
    read = read_segmentation(value, SIZE)
    assert read.rle == ""
    assert part in read.faults[-1].group


def test_short_polygons_are_left_out_beside_others() -> None:
    read = read_segmentation([[1, 2, 3, 4], SQUARE, []], SIZE)
    assert [fault.group for fault in read.faults] == ["a polygon has fewer than three points"] * 2
    np.testing.assert_array_equal(bitmap_of(read.rle, SIZE), RECTANGLE)


def test_one_list_of_numbers_is_one_polygon() -> None:
    read = read_segmentation(SQUARE, SIZE)
    assert [fault.done for fault in read.faults] == ["read as one polygon"]
    np.testing.assert_array_equal(bitmap_of(read.rle, SIZE), RECTANGLE)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 60) | st.floats() | st.text(max_size=4) | st.just("size"),
    lambda inner: (
        st.lists(inner, max_size=8)
        | st.dictionaries(st.sampled_from(["size", "counts", "x"]), inner, max_size=3)
        | st.fixed_dictionaries({"size": st.just([30, 40]), "counts": inner})
    ),
    max_leaves=20,
)


@given(json_values)
def test_any_value_is_read_or_refused(value: Any) -> None:
    read = read_segmentation(value, SIZE)
    assert read.rle == "" or bitmap_of(read.rle, SIZE).any()


def content(*segmentations: Any, **options: Any) -> dict[str, Any]:
    entries = [
        {"id": number, "image_id": 1, "category_id": 1, "bbox": [4, 6, 10, 10], "segmentation": value, **options}
        for number, value in enumerate(segmentations, start=1)
    ]
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 30, "width": 40}],
        "annotations": entries,
        "categories": [{"id": 1, "name": "cat"}],
    }


def opened(folder: Path, content: dict[str, Any], **options: Any) -> Any:
    file = folder / "train.json"
    file.write_text(json.dumps(content))
    return open_dataset(file, check_images=False, **options)


def test_masks_are_read_when_they_are_wanted(tmp_path: Path) -> None:
    described = content([SQUARE], RLE, LIST_RLE, iscrowd=0)
    described["annotations"][2]["iscrowd"] = 1
    plain = opened(tmp_path, described)
    assert plain.images.masks is None
    assert plain.images[0].masks is None
    read = opened(tmp_path, described, masks=True)
    assert read.problems == ()
    assert len(read.images.masks) == 3
    for text in read.images[0].masks:
        np.testing.assert_array_equal(bitmap_of(text, SIZE), RECTANGLE)
    for name in ("boxes", "labels", "areas", "crowd"):
        np.testing.assert_array_equal(getattr(read.images, name), getattr(plain.images, name))


def test_faults_name_the_annotation_and_the_field(tmp_path: Path) -> None:
    described = content([SQUARE], [[1, 2, 3, 4]], {"size": [9, 9], "counts": "x"}, None)
    read = opened(tmp_path, described, masks=True)
    changed = [problem for problem in read.problems if problem.outcome == "changed"]
    assert [problem.where.rpartition(": ")[2] for problem in changed] == ["annotation 2"] * 2 + ["annotation 3"]
    assert all(problem.what.startswith("segmentation: ") for problem in changed)
    counted = next(problem for problem in read.problems if problem.unit == "object")
    assert counted.count == 3
    assert len(read.images.labels) == 4
    assert [bool(text) for text in read.images.masks] == [True, False, False, False]
    assert opened(tmp_path, described).problems == ()


def test_masks_are_read_beside_other_faults(tmp_path: Path) -> None:
    described = content([SQUARE], RLE)
    described["annotations"][0]["bbox"] = ["4", "6", "10", "10"]
    described["annotations"].append({"id": 9, "image_id": 1, "category_id": 1, "bbox": None, "segmentation": [SQUARE]})
    read = opened(tmp_path, described, masks=True)
    assert [bool(text) for text in read.images.masks] == [True, True, True]
    assert read.images[0].boxes[2].tolist() == [4, 6, 14, 16]


def test_masks_come_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(annotation_cache, "_SMALLEST", 0)
    monkeypatch.setattr(annotation_cache, "SETTLED", -1e9)
    described = content([SQUARE], None)
    first, again = (opened(tmp_path, described, masks=True) for _ in range(2))
    assert list(again.images.masks) == list(first.images.masks)
    assert opened(tmp_path, described).images.masks is None
    assert opened(tmp_path, described, masks=True).problems == first.problems


def test_a_file_without_objects_has_no_masks_to_miss(tmp_path: Path) -> None:
    read = opened(tmp_path, content(), masks=True)
    assert len(read.images.masks) == 0
    assert read.problems == ()


def test_tables_are_cut_and_joined_with_their_masks(tmp_path: Path) -> None:
    read = opened(tmp_path, content([SQUARE], None, RLE), masks=True).images
    plain = opened(tmp_path, content([SQUARE])).images
    joined = type(read).joined([plain, read])
    assert [bool(text) for text in joined.masks] == [False, True, False, True]
    assert [bool(text) for text in joined.take([1]).masks] == [True, False, True]
    assert list(type(read).of([joined[0], joined[1]]).masks) == list(joined.masks)
    kept = joined[1].keep(np.array([False, False, True]))
    assert list(kept.masks) == [RLE["counts"]]
    assert type(read).joined([plain, plain]).masks is None
