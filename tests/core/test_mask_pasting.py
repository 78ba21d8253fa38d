from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from conftest import Golden
from detdistill.core.mask_pasting import paste_masks, paste_probabilities

SIZE = (20, 24)


@settings(max_examples=40)
@given(
    arrays.arrays(np.float32, (3, 4, 4), elements=st.floats(0, 1, width=32)),
    st.lists(st.tuples(*[st.integers(-40, 200)] * 4), min_size=3, max_size=3),
)
def test_a_pixel_belongs_to_the_object_from_the_threshold_on(
    cells: np.ndarray, corners: list[tuple[int, int, int, int]]
) -> None:
    boxes = torch.tensor(corners) / 8
    probabilities = torch.from_numpy(cells)
    masks = paste_masks(probabilities, boxes, SIZE)
    assert torch.equal(masks.bitmaps().bool(), paste_probabilities(probabilities, boxes, SIZE) >= 0.5)
    for (x1, y1, x2, y2), (left, top, right, bottom) in zip(masks.windows.tolist(), boxes.tolist(), strict=True):
        if x2 > x1:  # no further from the box than a pixel whose middle is on its side
            assert left - 0.5 <= x1 + 0.5
            assert top - 0.5 <= y1 + 0.5
            assert x2 - 0.5 <= right + 0.5
            assert y2 - 0.5 <= bottom + 0.5


def test_a_box_of_whole_cells_is_filled() -> None:
    cells = torch.tensor([[[1.0, 0.0], [1.0, 1.0]]])
    found = paste_masks(cells, torch.tensor([[2.0, 4.0, 4.0, 6.0]]), (8, 8)).bitmaps()[0]
    expected = torch.zeros(8, 8, dtype=torch.uint8)
    expected[4:6, 2:4] = torch.tensor([[1, 0], [1, 1]])
    assert torch.equal(found, expected)


@pytest.mark.parametrize(
    "box",
    [
        (3.0, 3.0, 3.0, 9.0),
        (9.0, 3.0, 3.0, 9.0),
        (-9.0, 1.0, -2.0, 5.0),
        (30.0, 1.0, 40.0, 5.0),
        (1.0, 1.0, float("nan"), 5.0),
    ],
)
def test_boxes_without_a_pixel_in_the_image_have_none(box: tuple[float, ...]) -> None:
    masks = paste_masks(torch.ones(1, 28, 28), torch.tensor([box]), SIZE)
    assert not masks.present.any()
    assert not masks.bitmaps().any()


def test_no_detections() -> None:
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), SIZE).bitmaps().shape == (0, *SIZE)


@pytest.mark.golden
def test_pasting_of_mmdetection(golden2: Golden) -> None:
    case = golden2("mask_head")
    cells, boxes = torch.from_numpy(case["paste_masks_in"]), torch.from_numpy(case["paste_boxes_in"])
    height, width = case["paste_hw"].tolist()
    soft = paste_probabilities(cells, boxes, (height, width))
    np.testing.assert_allclose(soft.numpy(), case["paste_soft"], atol=2e-5)
    binary = paste_masks(cells, boxes, (height, width)).bitmaps().numpy()
    assert np.count_nonzero(binary != case["paste_binary"]) <= 2
