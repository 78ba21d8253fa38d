from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.canvas import on_one_canvas

SIDES = st.integers(1, 40)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=4), st.integers(1, 33), st.none() | st.integers(1, 80))
def test_each_image_is_whole_and_the_rest_is_empty(
    sizes: list[tuple[int, int]], multiple: int, side: int | None
) -> None:
    images = [torch.full((3, *size), number + 1, dtype=torch.uint8) for number, size in enumerate(sizes)]
    canvas = on_one_canvas(images, multiple=multiple, side=side)
    for axis in (0, 1):
        needed = max(side or 0, *(size[axis] for size in sizes))
        assert canvas.shape[2 + axis] % multiple == 0
        assert needed <= canvas.shape[2 + axis] < needed + multiple
    for number, (height, width) in enumerate(sizes):
        assert (canvas[number, :, :height, :width] == number + 1).all()
        assert (canvas[number] != 0).sum() == 3 * height * width
