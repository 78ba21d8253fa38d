from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.data.opening import open_dataset
from detdistill.deploy.canvases import canvas_for, on_canvas, photographs
from detdistill.errors import DetdistillError
from detdistill.image_options import ImageOptions
from small_runs import write_boxes

SIDES = st.integers(20, 900)


def test_images_stand_in_the_corner_of_their_canvas() -> None:
    image = torch.ones(1, 3, 2, 3, dtype=torch.uint8)
    placed = on_canvas(image, (4, 4))
    assert placed.shape == (1, 3, 4, 4)
    assert placed.sum() == image.sum()
    assert torch.equal(placed[..., :2, :3], image)
    with pytest.raises(DetdistillError, match="5x5 pixels does not fit on the canvas of 4x4: export with a larger"):
        on_canvas(torch.ones(1, 3, 5, 5, dtype=torch.uint8), (4, 4))


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5), st.none() | st.integers(40, 300))
def test_the_canvas_is_the_smallest_that_holds_all_images(sizes: list[tuple[int, int]], letterbox: int | None) -> None:
    options = ImageOptions(short_side=200, long_side=320, letterbox=letterbox)
    canvas = canvas_for(sizes, options)
    fitted = [options.fitted(size) for size in sizes] + ([(letterbox, letterbox)] if letterbox else [])
    for axis in (0, 1):
        assert canvas[axis] % 32 == 0
        assert canvas[axis] - 32 < max(size[axis] for size in fitted) <= canvas[axis]


def test_photographs_come_in_batches_of_several_sizes(tmp_path: Path) -> None:
    dataset = open_dataset(write_boxes(tmp_path, val=8), "val")
    options = ImageOptions(short_side=40, long_side=60)
    for canvas, expected in (((96, 64), (96, 64)), (None, (64, 64))):
        batches = list(photographs(dataset, options, canvas, 7))
        assert [len(images) for images, _ in batches] == [1, 2, 3, 1]
        assert all(tuple(images.shape[2:]) == expected for images, _ in batches)
        assert all(sizes.tolist() == [[40, 40]] * len(images) for images, sizes in batches)
