from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.annotations import ImageRecord
from detdistill.data.opening import open_dataset
from detdistill.deploy.canvases import canvas_of, on_canvas, photographs
from detdistill.detectors.description import ImageSize
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


def record(height: int, width: int) -> ImageRecord:
    none, flags = np.zeros(0), np.zeros(0, bool)
    return ImageRecord(
        0, Path("0.png"), "0.png", width, height, none.reshape(0, 4), none.astype(int), none, flags, flags
    )


def test_without_images_it_holds_any() -> None:
    assert canvas_of(Path("run"), ImageSize(short_side=200, long_side=330)) == (352, 352)
    with pytest.raises(DetdistillError, match="does not tell the size of images"):
        canvas_of(Path("run"), None)


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=5), st.none() | st.integers(40, 300))
def test_the_canvas_is_the_smallest_that_holds_all_images(sizes: list[tuple[int, int]], letterbox: int | None) -> None:
    made_for = ImageSize(short_side=200, long_side=320, letterbox=letterbox)
    options = ImageOptions(**asdict(made_for))
    canvas = canvas_of(Path("run"), made_for, [record(*size) for size in sizes])
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
