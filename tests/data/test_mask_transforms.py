"""Masks move as their images and their boxes do."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import max_pool2d

from detdistill.core.image_options import ImageOptions
from detdistill.core.instance_masks import InstanceMasks
from detdistill.data.transforms import EvaluationTransform, Sample, TrainingTransform, Variation


def ellipse(height: int, width: int, box: tuple[float, float, float, float]) -> Tensor:
    x1, y1, x2, y2 = box
    down, across = torch.arange(height)[:, None] + 0.5, torch.arange(width)[None] + 0.5
    radius = ((across - (x1 + x2) / 2) / ((x2 - x1) / 2)) ** 2 + ((down - (y1 + y2) / 2) / ((y2 - y1) / 2)) ** 2
    return (radius <= 1).to(torch.uint8)


def sample(bitmaps: Tensor) -> Sample:
    """A white object on black: the image itself says where the mask of the first object is."""
    masks = InstanceMasks.of_bitmaps(bitmaps)
    return Sample(
        image=bitmaps[0].mul(255).expand(3, -1, -1).contiguous(),
        boxes=masks.windows.float(),
        labels=torch.arange(len(bitmaps)),
        crowd=torch.zeros(len(bitmaps), dtype=torch.bool),
        difficult=torch.zeros(len(bitmaps), dtype=torch.bool),
        masks=masks,
    )


def grown(mask: Tensor, reach: int) -> Tensor:
    return max_pool2d(mask[None, None].float(), 2 * reach + 1, stride=1, padding=reach)[0, 0].bool()


def assert_alike(mask: Tensor, shown: Tensor, reach: int) -> None:
    assert not (mask & ~grown(shown, reach)).any()
    assert not (shown & ~grown(mask, reach)).any()


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(24, 60), st.integers(24, 60)),
    fractions=st.tuples(*[st.floats(0, 0.55)] * 2, *[st.floats(0.3, 0.45)] * 2),
    side=st.integers(24, 80),
    jitter=st.sampled_from([(1.0, 1.0), (0.6, 1.0), (1.0, 1.7), (0.5, 2.0)]),
    letterbox=st.booleans(),
    seed=st.integers(0, 99),
)
def test_the_mask_of_a_varied_image_is_the_varied_mask(
    size: tuple[int, int],
    fractions: tuple[float, float, float, float],
    side: int,
    jitter: tuple[float, float],
    letterbox: bool,
    seed: int,
) -> None:
    height, width = size
    x1, y1, wide, high = (part * length for part, length in zip(fractions, (width, height) * 2, strict=True))
    one = sample(ellipse(height, width, (x1, y1, x1 + wide, y1 + high))[None])
    options = ImageOptions(side, side + 20, side if letterbox else None, flip=0.5, photometric=0, scale_jitter=jitter)
    torch.manual_seed(seed)
    varied = TrainingTransform(options)(one)
    assert varied.masks is not None
    assert varied.masks.size == varied.size
    if len(varied.masks) == 0:
        return
    mask = varied.masks.bitmaps()[0].bool()
    # A pixel of the original or of the varied image, whichever is larger: enlarged images are smooth.
    longest = max(options.fitted(size)) * jitter[1] / max(size)
    assert_alike(mask, varied.image[0] > 127, max(1, math.ceil(longest)))
    x1, y1, x2, y2 = varied.masks.windows[0].tolist()
    left, top, right, bottom = varied.boxes[0].tolist()
    assert x1 >= left - 1
    assert y1 >= top - 1
    assert x2 <= right + 1
    assert y2 <= bottom + 1


def test_masks_at_the_image_s_own_size_stay_as_they_are() -> None:
    one = sample(ellipse(40, 64, (5, 5, 20, 20))[None])
    same = EvaluationTransform(ImageOptions(40, 64))(one)
    assert one.masks is not None
    assert same.masks is not None
    assert torch.equal(same.masks.bitmaps(), one.masks.bitmaps())


def test_a_mirrored_part_of_an_enlarged_mask() -> None:
    bitmap = torch.tensor([[1, 0, 0], [0, 1, 1]], dtype=torch.uint8)
    masks = InstanceMasks.of_bitmaps(bitmap[None])
    found = Variation((4, 6), (4, 4), (0, 2), flips=True).of_masks(masks)
    assert found is not None
    assert found.size == (4, 4)
    assert found.bitmaps()[0].tolist() == [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    left = Variation((4, 6), (4, 4), (0, 0), flips=True).of_masks(masks)
    assert left is not None
    assert left.bitmaps()[0].tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [1, 1, 0, 0], [1, 1, 0, 0]]


@pytest.mark.parametrize("has_masks", [False, True])
def test_an_object_goes_with_its_box_or_its_mask(has_masks: bool) -> None:
    # Objects: a point in the upper left corner of a large box, one without a mask there, one at the right.
    bitmaps = torch.zeros(3, 40, 80, dtype=torch.uint8)
    bitmaps[0, 0, 0] = 1
    bitmaps[2, 20:36, 50:70] = 1
    one = replace(
        sample(bitmaps), boxes=torch.tensor([[0.0, 0.0, 80.0, 40.0], [0.0, 0.0, 60.0, 30.0], [50.0, 20.0, 70.0, 36.0]])
    )
    one = one if has_masks else replace(one, masks=None)
    for seed in range(20):
        torch.manual_seed(seed)
        found = TrainingTransform(ImageOptions(40, 80, flip=0, photometric=0, scale_jitter=(2.0, 2.0)))(one)
        labels = found.labels.tolist()
        assert 1 in labels or not has_masks
        if has_masks:
            assert found.masks is not None
            assert len(found.masks) == len(labels)
            present = dict(zip(labels, found.masks.present.tolist(), strict=True))
            assert present.pop(1) is False
            assert all(present.values())
        else:
            assert found.masks is None
    assert has_masks == (0 not in labels)
