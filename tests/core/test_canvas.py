from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.canvas import on_canvas

SIDES = st.integers(1, 40)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4), SIDES, SIDES)
def test_each_image_is_whole_and_the_rest_is_empty(sizes: list[tuple[int, int]], more: int, wider: int) -> None:
    images = [torch.full((3, *size), number + 1, dtype=torch.uint8) for number, size in enumerate(sizes)]
    canvas = max(height for height, _ in sizes) + more, max(width for _, width in sizes) + wider
    batch = on_canvas(images, canvas)
    assert batch.shape == (len(sizes), 3, *canvas)
    for number, (height, width) in enumerate(sizes):
        assert (batch[number, :, :height, :width] == number + 1).all()
        assert (batch[number] != 0).sum() == 3 * height * width
