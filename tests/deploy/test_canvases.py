from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.annotations import ImageRecord
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.data.opening import open_dataset
from detdistill.deploy.canvases import noise, photographs, shared_canvas, usual_canvas
from support.small_runs import write_boxes

SIDES = st.integers(20, 900)
RUN = Path("run")


def record(height: int, width: int) -> ImageRecord:
    none, flags = np.zeros(0), np.zeros(0, bool)
    return ImageRecord(
        0, Path("0.png"), "0.png", width, height, none.reshape(0, 4), none.astype(int), none, flags, flags
    )


@given(st.lists(st.tuples(SIDES, SIDES), min_size=1, max_size=3))
def test_a_canvas_is_shared_only_if_every_image_has_it_as_its_own(sizes: list[tuple[int, int]]) -> None:
    options = ImageOptions(short_side=200, long_side=320)
    own = {options.canvas_of(size) for size in sizes}
    assert shared_canvas(options, [record(*size) for size in sizes]) == (own.pop() if len(own) == 1 else None)


def test_without_images_only_a_fixed_canvas_is_shared() -> None:
    assert shared_canvas(ImageOptions(short_side=200, long_side=330)) is None
    assert shared_canvas(ImageOptions(letterbox=80)) == (96, 96)
    assert shared_canvas(ImageOptions(canvas=(64, 96)), [record(500, 20)]) == (64, 96)


def test_the_usual_canvas_is_the_most_frequent_or_wide() -> None:
    size = ImageSize(short_side=200, long_side=330)
    images = [record(240, 320), record(320, 240), record(320, 240)]
    assert usual_canvas(RUN, size, images) == (288, 224)
    assert usual_canvas(RUN, size) == (224, 352)
    assert usual_canvas(RUN, ImageSize(letterbox=64), images) == (64, 64)
    with pytest.raises(DetdistillError):
        usual_canvas(RUN, None)


def test_photographs_are_a_sample_in_batches_of_several_sizes(tmp_path: Path) -> None:
    dataset = open_dataset(write_boxes(tmp_path, val=8), "val")
    for canvas, expected in (((96, 64), (96, 64)), (None, (64, 64))):
        options = ImageOptions(short_side=40, long_side=60, canvas=canvas)
        batches = list(photographs(dataset, options, 7))
        assert [len(images) for images, _ in batches] == [1, 2, 3, 1]
        assert all(tuple(images.shape[2:]) == expected for images, _ in batches)
        assert all(sizes.tolist() == [[40, 40]] * len(images) for images, sizes in batches)


def test_noise_takes_the_canvases_in_turns() -> None:
    batches = list(noise([(64, 96), (96, 64)], 9))
    assert [tuple(images.shape) for images, _ in batches] == [
        (1, 3, 64, 96),
        (2, 3, 64, 96),
        (3, 3, 96, 64),
        (1, 3, 96, 64),
        (2, 3, 64, 96),
    ]
    filled = [bool((sizes == sizes.new_tensor(images.shape[2:])).all()) for images, sizes in batches]
    assert filled == [True, False, True, False, True]
