from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as reference

from detdistill.core import rle
from detdistill.core.errors import DataError

sizes = st.tuples(st.integers(1, 20), st.integers(1, 20))
bitmaps = sizes.flatmap(lambda size: arrays.arrays(np.uint8, size, elements=st.integers(0, 1)))


def peer(bitmap: np.ndarray) -> str:
    return str(reference.encode(np.asfortranarray(bitmap))["counts"], "ascii")


@given(bitmaps)
def test_bitmaps_are_packed_as_cocoapi_packs_them(bitmap: np.ndarray) -> None:
    text, size = rle.rle_of_bitmap(bitmap), bitmap.shape
    assert text == peer(bitmap)
    np.testing.assert_array_equal(rle.bitmap_of(text, size), bitmap)
    assert rle.area_of(text, size) == bitmap.sum()
    assert rle.is_blank(text) == (not bitmap.any())
    x, y, width, height = reference.toBbox({"size": list(size), "counts": text}).tolist()
    if bitmap.any():
        assert rle.box_of(text, size) == (x, y, x + width, y + height)
    else:
        assert rle.box_of(text, size) == (0, 0, 0, 0)


@settings(max_examples=40)
@given(bitmaps, st.data())
def test_a_part_of_a_mask_is_packed_as_the_whole(bitmap: np.ndarray, data: st.DataObject) -> None:
    height, width = bitmap.shape
    x1, y1 = data.draw(st.integers(0, width)), data.draw(st.integers(0, height))
    x2, y2 = data.draw(st.integers(x1, width)), data.draw(st.integers(y1, height))
    whole = np.zeros_like(bitmap)
    whole[y1:y2, x1:x2] = bitmap[y1:y2, x1:x2]
    assert rle.rle_of_window(bitmap[y1:y2, x1:x2], (x1, y1, x2, y2), (height, width)) == peer(whole)


@settings(max_examples=40)
@given(bitmaps)
def test_the_part_with_the_object_is_cut_out(bitmap: np.ndarray) -> None:
    crop, (x1, y1, x2, y2) = rle.cropped(peer(bitmap), bitmap.shape)
    assert crop.shape == (y2 - y1, x2 - x1)
    whole = np.zeros_like(bitmap)
    whole[y1:y2, x1:x2] = crop
    np.testing.assert_array_equal(whole, bitmap)
    if bitmap.any():
        assert crop[0].any()
        assert crop[-1].any()
        assert crop[:, 0].any()
        assert crop[:, -1].any()


@settings(max_examples=40)
@given(bitmaps)
def test_uncompressed_run_lengths_are_packed(bitmap: np.ndarray) -> None:
    flat = [0, *bitmap.T.reshape(-1).tolist()]
    changes = [place - 1 for place in range(1, len(flat)) if flat[place] != flat[place - 1]]
    counts = np.diff([0, *changes, bitmap.size]).tolist()
    np.testing.assert_array_equal(rle.bitmap_of(rle.rle_of_counts(counts, bitmap.shape), bitmap.shape), bitmap)


polygons = st.lists(
    st.lists(st.tuples(st.floats(-8, 19), st.floats(-8, 19)), min_size=3, max_size=6), min_size=1, max_size=3
)


@settings(max_examples=40)
@given(polygons, st.tuples(st.integers(10, 20), st.integers(10, 20)))
def test_polygons_are_drawn_as_cocoapi_draws_them(parts: list[list[tuple[float, float]]], size: rle.Size) -> None:
    flat = [[value for point in part for value in point] for part in parts]
    text = rle.rle_of_polygons(flat, size)
    expected = reference.decode(reference.merge(reference.frPyObjects(flat, *size)))
    np.testing.assert_array_equal(rle.bitmap_of(text, size), expected)


def test_a_square_covers_its_pixels() -> None:
    text = rle.rle_of_polygons([[2, 1, 6, 1, 6, 4, 2, 4]], (5, 8))
    expected = np.zeros((5, 8), np.uint8)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(rle.bitmap_of(text, (5, 8)), expected)


@pytest.mark.parametrize(
    "parts",
    [
        [],
        [[1, 1, 2, 2]],  # cocoapi takes four numbers for a box
        [[1, 1, 2, 2, 3]],
        [[0, 0, 4, 0, 4, 4, 0]],
        [[0, 0, 4, 0, 4, 4], [1, 1]],
        [[0, 0, 4, 0, 4, 4e8]],
        [[0, 0, 4, 0, 4, float("nan")]],
        [[0, 0, 4, 0, float("inf"), 4]],
        [[0, 0, 4, 0, 4, 10**400]],
    ],
)
def test_polygons_that_are_none_are_refused(parts: list[list[float]]) -> None:
    with pytest.raises(DataError):
        rle.rle_of_polygons(parts, (5, 8))


@pytest.mark.parametrize("counts", [[], [40, -1, 1], [39], [41], [10, 2**62, 2**62, 2**62, 2**62, 30]])
def test_run_lengths_of_another_size_are_refused(counts: list[int]) -> None:
    with pytest.raises(DataError):
        rle.rle_of_counts(counts, (5, 8))


@pytest.mark.parametrize("text", ["", "é", "  ", "`", "zzz", ";230009P", "P" * 30, ";23000", "X1", "o" * 12 + "0"])
def test_texts_that_do_not_decode_are_refused(text: str) -> None:
    with pytest.raises(DataError):
        rle.area_of(text or "?", (5, 7))


@settings(max_examples=40)
@given(st.text(max_size=12) | st.binary(max_size=12).map(lambda some: "".join(chr(48 + byte % 64) for byte in some)))
def test_no_text_decodes_to_another_size(text: str) -> None:
    try:
        area = rle.area_of(text, (5, 7))
    except DataError:
        return
    assert rle.bitmap_of(text, (5, 7)).sum() == area


@settings(max_examples=40)
@given(bitmaps, st.integers(1, 4))
def test_a_mask_enlarged_by_a_whole_number_repeats_its_pixels(bitmap: np.ndarray, factor: int) -> None:
    height, width = bitmap.shape
    text = rle.resized(peer(bitmap), bitmap.shape, (height * factor, width * factor))
    expected = bitmap.repeat(factor, axis=0).repeat(factor, axis=1)
    np.testing.assert_array_equal(rle.bitmap_of(text, expected.shape), expected)


def test_the_nearest_pixel_is_that_of_the_middle() -> None:
    assert rle.nearest(2, 4).tolist() == [1, 3]
    assert rle.nearest(3, 3).tolist() == [0, 1, 2]
    assert rle.nearest(6, 3).tolist() == [0, 0, 1, 1, 2, 2]
    assert rle.nearest(3, 7).tolist() == [1, 3, 5]
