from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from detdistill.core.instance_masks import InstanceMasks

sizes = st.tuples(st.integers(1, 9), st.integers(1, 9))
bitmaps = st.tuples(st.integers(0, 4), sizes).flatmap(
    lambda shape: arrays.arrays(np.uint8, (shape[0], *shape[1]), elements=st.integers(0, 1))
)


@settings(max_examples=40)
@given(bitmaps)
def test_masks_are_stored_and_returned(whole: np.ndarray) -> None:
    masks = InstanceMasks.of_bitmaps(torch.from_numpy(whole))
    assert len(masks) == len(whole)
    assert masks.size == whole.shape[1:]
    assert torch.equal(masks.bitmaps(), torch.from_numpy(whole))
    assert masks.present.tolist() == [bool(one.any()) for one in whole]
    assert len(masks.pixels) <= whole.size
    again = InstanceMasks.of_rles(masks.rles(), masks.size)
    assert torch.equal(again.windows, masks.windows)
    assert torch.equal(again.pixels, masks.pixels)


@settings(max_examples=40)
@given(bitmaps, st.data())
def test_some_masks_are_taken_in_any_order(whole: np.ndarray, data: st.DataObject) -> None:
    masks = InstanceMasks.of_bitmaps(torch.from_numpy(whole))
    chosen = data.draw(st.lists(st.integers(0, len(whole) - 1), max_size=6) if len(whole) else st.just([]))
    taken = masks.take(torch.tensor(chosen, dtype=torch.int64))
    np.testing.assert_array_equal(taken.bitmaps().numpy(), whole[chosen])
    kept = torch.tensor([index in chosen for index in range(len(whole))], dtype=torch.bool)
    np.testing.assert_array_equal(masks.take(kept).bitmaps().numpy(), whole[kept.numpy()])


@settings(max_examples=40)
@given(bitmaps, bitmaps)
def test_masks_are_joined_on_a_plane_that_covers_both(first: np.ndarray, second: np.ndarray) -> None:
    size = max(first.shape[1], second.shape[1]), max(first.shape[2], second.shape[2])
    parts = [InstanceMasks.of_bitmaps(torch.from_numpy(whole)) for whole in (first, second)]
    joined = InstanceMasks.joined(parts, size)
    expected = np.zeros((len(first) + len(second), *size), np.uint8)
    expected[: len(first), : first.shape[1], : first.shape[2]] = first
    expected[len(first) :, : second.shape[1], : second.shape[2]] = second
    np.testing.assert_array_equal(joined.bitmaps().numpy(), expected)
    assert joined.size == size


def test_objects_without_masks_keep_their_places() -> None:
    masks = InstanceMasks.of_rles(["", "04"], (2, 2))
    assert masks.present.tolist() == [False, True]
    assert masks.bitmaps().sum(dim=(1, 2)).tolist() == [0, 4]
    assert len(InstanceMasks.empty((3, 4), 2)) == 2
    assert InstanceMasks.empty((3, 4)).bitmaps().shape == (0, 3, 4)
    assert len(InstanceMasks.joined([], (3, 4))) == 0
    assert InstanceMasks.empty((2, 2), 1).rles() == ["4"]


def test_masks_move_between_devices() -> None:
    moved = InstanceMasks.of_rles(["04"], (2, 2)).to("meta")
    assert {moved.windows.device.type, moved.pixels.device.type} == {"meta"}
    assert moved.size == (2, 2)
