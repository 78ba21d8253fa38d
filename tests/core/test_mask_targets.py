from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align

from conftest import Golden
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.mask_targets import binary_mask_targets, soft_mask_targets

LEFT_HALF = torch.tensor([[1, 1, 0, 0]] * 4)


def test_the_left_half_of_a_square() -> None:
    masks = InstanceMasks.of_bitmaps(LEFT_HALF[None])
    boxes, matched = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([0])
    assert binary_mask_targets(masks, boxes, matched, side=2).tolist() == [[[1, 0], [1, 0]]]
    soft = soft_mask_targets(masks, boxes, matched, torch.tensor([[4, 4]]), side=2)
    assert soft.tolist() == [[[0.75, 0], [0.75, 0]]]


whole_masks = st.tuples(st.integers(1, 3), st.integers(2, 12), st.integers(2, 12)).flatmap(
    lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 1))
)
corner = st.integers(-16, 112).map(lambda eighths: eighths / 8)


@settings(max_examples=40)
@given(whole_masks, st.lists(st.tuples(corner, corner, corner, corner), min_size=1, max_size=4), st.data())
def test_only_the_part_around_the_object_is_needed(
    whole: np.ndarray, corners: list[tuple[float, ...]], data: st.DataObject
) -> None:
    masks = InstanceMasks.of_bitmaps(torch.from_numpy(whole))
    boxes = torch.tensor([(min(a, c), min(b, d), max(a, c) + 1, max(b, d) + 1) for a, b, c, d in corners])
    matched = torch.tensor([data.draw(st.integers(0, len(whole) - 1)) for _ in corners])
    planes = torch.from_numpy(whole)[matched][:, None].float()
    places = torch.arange(len(boxes))[:, None].float()
    size = torch.tensor(whole.shape[1:]).expand(len(boxes), 2)
    soft = soft_mask_targets(masks, boxes, matched, size, side=4)
    torch.testing.assert_close(soft, roi_align(planes, torch.cat((places, boxes), dim=1), 4)[:, 0])
    limits = torch.tensor([*whole.shape[1:][::-1]]).repeat(2)
    clipped = torch.minimum(boxes.clamp(min=0), limits)
    pooled = roi_align(planes, torch.cat((places, clipped), dim=1), 4, aligned=True)[:, 0]
    binary = binary_mask_targets(masks, boxes, matched, side=4)
    clear = (pooled - 0.5).abs() > 1e-4
    assert torch.equal(binary[clear], (pooled >= 0.5).float()[clear])


def test_objects_without_a_mask_and_no_boxes_at_all() -> None:
    masks = InstanceMasks.empty((8, 8), 2)
    assert not binary_mask_targets(masks, torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([1])).any()
    nothing = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    assert binary_mask_targets(masks, *nothing).shape == (0, 28, 28)
    assert soft_mask_targets(masks, *nothing, torch.zeros(0, 2), side=14).shape == (0, 14, 14)


def unpacked(packed: NDArray[Any], height: int, width: int) -> Tensor:
    return torch.from_numpy(np.unpackbits(packed, axis=1).reshape(-1, height, width))


@pytest.mark.golden
def test_targets_of_mmdetection(golden2: Golden) -> None:
    case = golden2("mask_head")
    rois, matched = torch.from_numpy(case["rois"]), torch.from_numpy(case["matched"])
    expected = unpacked(case["bitmap_targets"], 28, 28)
    for image in range(2):
        masks = InstanceMasks.of_bitmaps(unpacked(case[f"gt_masks_img{image}"], *case["pad_hw"].tolist()))
        own = rois[:, 0] == image
        found = binary_mask_targets(masks, rois[own, 1:], matched[own])
        assert torch.equal(found.to(torch.uint8), expected[own])
