from __future__ import annotations

import torch

from detdistill.core.in_image import in_pixels_of_image
from detdistill.core.mask_pasting import paste_masks
from detdistill.core.structures import Detections


def test_masks_are_pasted_at_the_size_of_the_image() -> None:
    cells = torch.tensor([[[1.0, 0.0], [1.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]])
    found = Detections(
        torch.tensor([[2.0, 4.0, 4.0, 6.0], [0.0, 0.0, 9.0, 2.0]]),
        torch.tensor([0.9, 0.8]),
        torch.tensor([1, 0]),
        mask_probabilities=cells,
    )
    moved = in_pixels_of_image(found, (8, 8), (16, 8))
    assert moved.boxes.tolist() == [[2, 8, 4, 12], [0, 0, 8, 4]]
    assert moved.labels.tolist() == [1, 0]
    assert moved.mask_probabilities is None
    assert moved.masks is not None
    assert moved.masks.size == (16, 8)
    expected = torch.zeros(16, 8, dtype=torch.uint8)
    expected[8:12, 2:4] = torch.tensor([[1, 0], [1, 0], [1, 1], [1, 1]])
    first, second = moved.masks.bitmaps()
    assert torch.equal(first, expected)
    # The box is clipped, the cells are not squeezed into what is left of it.
    whole = paste_masks(cells[1:], torch.tensor([[0.0, 0.0, 9.0, 4.0]]), (16, 8))
    assert torch.equal(second, whole.bitmaps()[0])
    assert second[1:3, 1:].all()


def test_detections_without_masks_have_none() -> None:
    found = in_pixels_of_image(
        Detections(torch.tensor([[1.0, 1.0, 3.0, 3.0]]), torch.ones(1), torch.zeros(1)), (4, 4), (8, 8)
    )
    assert found.masks is None
    assert found.boxes.tolist() == [[2, 2, 6, 6]]
