from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.boxes import boxes_to_original
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.data.transforms import EvaluationTransform, Sample, TrainingTransform


def sample(height: int, width: int, boxes: list[list[float]], image: Tensor | None = None) -> Sample:
    """Labels count up, so that a test can tell which object is which."""
    return Sample(
        image=torch.zeros(3, height, width, dtype=torch.uint8) if image is None else image,
        boxes=torch.tensor(boxes).reshape(-1, 4),
        labels=torch.arange(len(boxes)),
        crowd=torch.arange(len(boxes)) % 2 == 0,
        difficult=torch.arange(len(boxes)) % 3 == 0,
    )


def painted(height: int, width: int, box: tuple[int, int, int, int]) -> Sample:
    """A white rectangle on black: the picture itself says where the object is."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, box[1] : box[3], box[0] : box[2]] = 255
    return sample(height, width, [[float(side) for side in box]], image)


def bright_box(image: Tensor) -> Tensor:
    """Extent of the pixels above half brightness, at most half a pixel off."""
    rows, columns = (image[0] > 127).nonzero(as_tuple=True)
    return torch.stack((columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)).float()


@given(
    height=st.integers(1, 4000),
    width=st.integers(1, 4000),
    short=st.integers(1, 1000),
    extra=st.integers(0, 1000),
    letterbox=st.none() | st.integers(1, 1000),
)
def test_fitted_keeps_the_ratio_within_both_limits(
    height: int, width: int, short: int, extra: int, letterbox: int | None
) -> None:
    options = ImageOptions(short, short + extra, letterbox)
    new_height, new_width = options.fitted((height, width))
    assert min(new_height, new_width) <= (letterbox or short)
    assert max(new_height, new_width) <= (letterbox or short + extra)
    # One of the two limits is reached.
    assert min(new_height, new_width) == (letterbox or short) or max(new_height, new_width) == (
        letterbox or short + extra
    )
    factor = max(new_height, new_width) / max(height, width)
    assert abs(new_height - height * factor) <= 1
    assert abs(new_width - width * factor) <= 1


def test_fitted_known_answers() -> None:
    assert ImageOptions().fitted((480, 640)) == (800, 1067)
    assert ImageOptions().fitted((300, 900)) == (444, 1333)
    assert ImageOptions(letterbox=320).fitted((480, 640)) == (240, 320)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("flip", lambda: ImageOptions(flip=1.5)),
        ("long_side", lambda: ImageOptions(short_side=900, long_side=800)),
        ("scale_jitter", lambda: ImageOptions(scale_jitter=(2.0, 1.0))),
        ("hue", lambda: ImageOptions(hue=0.6)),
    ],
)
def test_options_out_of_range_are_refused(name: str, make: Callable[[], ImageOptions]) -> None:
    with pytest.raises(DetdistillError, match=f"{name} must"):
        make()


def test_evaluation_resizes_boxes_with_the_image() -> None:
    result = EvaluationTransform(ImageOptions(letterbox=96))(painted(40, 60, (10, 5, 30, 25)))
    assert result.size == (64, 96)
    torch.testing.assert_close(result.boxes, torch.tensor([[16.0, 8.0, 48.0, 40.0]]))
    torch.testing.assert_close(bright_box(result.image), result.boxes[0], atol=1.0, rtol=0)


@given(
    height=st.integers(40, 300),
    width=st.integers(40, 300),
    side=st.integers(40, 200),
    corner=st.tuples(st.floats(0, 0.4), st.floats(0, 0.4)),
    extent=st.tuples(st.floats(0.3, 0.6), st.floats(0.3, 0.6)),
)
def test_boxes_return_to_the_original_image(
    height: int, width: int, side: int, corner: tuple[float, float], extent: tuple[float, float]
) -> None:
    x, y = corner[0] * width, corner[1] * height
    box = [x, y, x + extent[0] * width, y + extent[1] * height]
    original = sample(height, width, [box])
    resized = EvaluationTransform(ImageOptions(short_side=side, long_side=2 * side))(original)
    back = boxes_to_original(resized.boxes, resized.size, original.size)
    torch.testing.assert_close(back, original.boxes, atol=1e-3, rtol=1e-5)


def test_boxes_returned_to_the_original_are_clipped_to_it() -> None:
    boxes = boxes_to_original(torch.tensor([[-5.0, 2.0, 70.0, 90.0]]), (80, 60), (40, 30))
    assert boxes.tolist() == [[0.0, 1.0, 30.0, 40.0]]


@given(seed=st.integers(0, 10_000))
def test_training_moves_the_box_with_the_picture(seed: int) -> None:
    options = ImageOptions(short_side=80, long_side=120, scale_jitter=(0.5, 2.0))
    torch.manual_seed(seed)
    result = TrainingTransform(options)(painted(100, 140, (45, 30, 95, 70)))
    assert result.size[0] <= 80
    assert result.size[1] <= 112
    for box in result.boxes:
        torch.testing.assert_close(bright_box(result.image), box, atol=1.0, rtol=0)
    if len(result.boxes) == 0:
        assert int((result.image > 127).any(dim=0).sum()) <= max(result.size)


@given(seed=st.integers(0, 10_000))
def test_flags_and_labels_follow_their_boxes(seed: int) -> None:
    # A grid of squares whose label tells their place and flags: after any crop, what is left must still agree.
    boxes = [[20.0 * i, 20.0 * j, 20.0 * i + 16, 20.0 * j + 16] for j in range(5) for i in range(5)]
    image = torch.zeros(3, 100, 100, dtype=torch.uint8)
    for label, (x1, y1, x2, y2) in enumerate(boxes):
        image[:, int(y1) : int(y2), int(x1) : int(x2)] = 10 * (label + 1)
    torch.manual_seed(seed)
    result = TrainingTransform(ImageOptions(100, 100, scale_jitter=(1.5, 3.0)))(sample(100, 100, boxes, image))
    assert len(result.boxes) == len(result.labels) == len(result.crowd) == len(result.difficult)
    assert result.crowd.tolist() == (result.labels % 2 == 0).tolist()
    assert result.difficult.tolist() == (result.labels % 3 == 0).tolist()
    for box, label in zip(result.boxes, result.labels, strict=True):
        x, y = ((box[:2] + box[2:]) / 2).long().tolist()
        if (box[2:] - box[:2]).min() > 6:
            assert int(result.image[0, y, x]) == 10 * (int(label) + 1)


def test_an_image_without_objects_passes() -> None:
    for transform in (EvaluationTransform(ImageOptions()), TrainingTransform(ImageOptions(scale_jitter=(0.5, 2.0)))):
        result = transform(sample(30, 50, []))
        assert result.boxes.shape == (0, 4)
        assert result.labels.shape == (0,)


def test_photometric_distortion_changes_colours_and_nothing_else() -> None:
    image = torch.randint(0, 256, (3, 40, 40), dtype=torch.uint8)
    original = sample(40, 40, [[3.0, 4.0, 20.0, 30.0]], image)
    torch.manual_seed(0)
    result = TrainingTransform(ImageOptions(40, 40, flip=0.0, photometric=1.0, hue=0.1))(original)
    assert result.image.dtype == torch.uint8
    assert not torch.equal(result.image, image)
    assert torch.equal(result.boxes, original.boxes)


def test_a_flip_mirrors() -> None:
    image = torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4).expand(3, 3, 4)
    result = TrainingTransform(ImageOptions(3, 4, flip=1.0))(sample(3, 4, [[0.0, 1.0, 1.0, 3.0]], image))
    assert torch.equal(result.image, image.flip(-1))
    assert result.boxes.tolist() == [[3.0, 1.0, 4.0, 3.0]]


def test_same_random_state_same_result() -> None:
    transform = TrainingTransform(ImageOptions(60, 90, scale_jitter=(0.5, 2.0), photometric=0.5))
    original = sample(80, 80, [[10.0, 10.0, 40.0, 40.0]], torch.randint(0, 256, (3, 80, 80), dtype=torch.uint8))
    torch.manual_seed(3)
    first = transform(original)
    torch.manual_seed(3)
    second = transform(original)
    assert torch.equal(first.image, second.image)
    assert torch.equal(first.boxes, second.boxes)


@pytest.mark.parametrize("size", [(60, 80), (30, 40)], ids=["resized", "as it is"])
def test_what_does_not_vary_goes_a_shorter_way_to_the_same_sample(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=generator)
    one = sample(*size, [[1, 2, 20, 25], [5, 5, 5.2, 20], [-3, 0, 90, 70]], image)
    short, long = (TrainingTransform(ImageOptions(30, 40, flip=flip))(one) for flip in (0.0, 1e-30))
    for name in ("image", "boxes", "labels", "crowd", "difficult"):
        assert torch.equal(getattr(short, name), getattr(long, name)), name
