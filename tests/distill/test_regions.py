from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from detdistill.core.boxes import pairwise_iou
from detdistill.core.structures import Targets
from detdistill.distill.regions import (
    Regions,
    best_regions,
    largest_by_image,
    object_windows,
    region_features,
    region_levels,
)
from support.term_cases import grid, objects


@pytest.mark.parametrize(("side", "level"), [(5, 0), (111, 0), (223, 0), (224, 1), (447, 1), (448, 2), (5000, 2)])
def test_the_level_of_a_size(side: float, level: int) -> None:
    """FPN's 224 pixels at stride 16, DeFeat's 56 at stride 4: 14 cells."""
    boxes = torch.tensor([[10, 10, 10 + side, 10 + side], [0, 0, 2 * side, side / 2]], dtype=torch.float64)
    assert region_levels(grid((40, 40), (20, 20), (10, 10)), boxes).tolist() == [level, level]


def test_windows_by_hand() -> None:
    targets = objects([[4, 4, 20, 30], [17, 1, 18, 2], [60, 60, 64, 64]], image=[0, 0, 1], images=2)
    (windows,) = object_windows(grid((8, 8)), targets)
    assert windows[0].nonzero().tolist() == [[y, x] for y in range(3) for x in range(2)]
    assert windows[1].nonzero().tolist() == [[0, 2]], "less than a cell is a cell"
    assert windows[2].nonzero().tolist() == [[7, 7]]
    largest = largest_by_image(windows * torch.tensor([1.0, 3.0, 2.0])[:, None, None], targets)
    assert largest[0, 0].tolist() == [1, 1, 3, 0, 0, 0, 0, 0]
    assert largest[1].sum() == 2


@st.composite
def boxes_in(draw: st.DrawFn, side: int, count: st.SearchStrategy[int]) -> Tensor:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    number = draw(count)
    start = torch.rand(number, 2, generator=generator) * (side - 1)
    sides = 0.1 + torch.rand(number, 2, generator=generator) ** 2 * side
    return torch.cat((start, (start + sides).clamp(max=side)), dim=1)


@given(boxes=boxes_in(320, st.integers(0, 6)))
def test_every_object_has_cells_on_one_level_and_only_under_its_box(boxes: Tensor) -> None:
    targets = objects(boxes.tolist(), side=320)
    of = grid((40, 40), (20, 20), (10, 10))
    windows = object_windows(of, targets)
    counts = torch.stack([window.flatten(1).sum(dim=1) for window in windows])
    assert ((counts > 0).sum(dim=0) == 1).all()
    for window, (step, _) in zip(windows, of.strides, strict=True):
        for item, row, column in window.nonzero().tolist():
            left, top, right, bottom = boxes[item].tolist()
            assert left < (column + 1) * step
            assert column * step <= right
            assert top < (row + 1) * step
            assert row * step <= bottom


@given(boxes=boxes_in(160, st.integers(1, 30)), count=st.integers(1, 5), threshold=st.sampled_from([0.3, 0.7]))
def test_the_best_regions_are_few_apart_and_best_first(boxes: Tensor, count: int, threshold: float) -> None:
    """Two images with the same candidates; the second is smaller, so that its boxes are clipped."""
    generator = torch.Generator().manual_seed(len(boxes))
    scores = torch.rand(2, len(boxes), generator=generator)
    sizes = torch.tensor([[160, 160], [120, 90]])
    regions = best_regions(
        scores, lambda index: boxes[index[1]], sizes, count=count, iou_threshold=threshold, smallest_side=4
    )
    assert regions.image.tolist() == sorted(regions.image.tolist())
    assert (regions.boxes[:, 2:] - regions.boxes[:, :2] >= 4).all()
    for image, (height, width) in enumerate(sizes.tolist()):
        own = regions.boxes[regions.image == image]
        assert len(own) <= count
        overlap = pairwise_iou(own, own) - torch.eye(len(own))
        assert (overlap <= threshold + 1e-6).all()
        clipped = boxes.minimum(torch.tensor([width, height, width, height]))
        large = ((clipped[:, 2:] - clipped[:, :2]) >= 4).all(dim=1)
        assert (len(own) > 0) == bool(large.any())
        if len(own):
            assert torch.equal(own[0], clipped[large][scores[image][large].argmax()])


@given(
    boxes=boxes_in(160, st.integers(2, 40)),
    crowded=st.integers(0, 40),
    count=st.integers(1, 4),
    threshold=st.sampled_from([0.3, 0.7]),
)
def test_the_first_are_enough_only_where_they_are(boxes: Tensor, crowded: int, count: int, threshold: float) -> None:
    """The best candidates may lie upon each other, so that more must be looked at than a few times `count`."""
    boxes = torch.cat((boxes[:1].expand(crowded, 4), boxes))
    scores = torch.linspace(1, 0.1, len(boxes))
    regions = best_regions(
        scores[None],
        lambda index: boxes[index[1]],
        torch.tensor([[160, 160]]),
        count=count,
        iou_threshold=threshold,
        smallest_side=0,
    )
    assert torch.equal(regions.boxes, boxes[nms(boxes, scores, threshold)[:count]])


def test_features_come_from_their_own_image_and_level_in_the_order_of_the_regions() -> None:
    of = grid((64, 64), (32, 32))
    maps = [
        torch.arange(2.0)[:, None, None, None].expand(2, 3, side, side) + shift for side, shift in ((64, 0), (32, 10))
    ]
    boxes = torch.tensor(
        [[0, 0, 300, 300], [5, 5, 25, 45], [8, 8, 500, 500], [100, 100, 101, 101]], dtype=torch.float32
    )
    regions = Regions(boxes, torch.tensor([0, 0, 1, 1]))
    pooled = region_features(maps, of, regions, 2)
    assert pooled.shape == (4, 3, 2, 2)
    assert pooled.mean(dim=(1, 2, 3)).tolist() == [10, 0, 11, 1]
    assert pooled.std(dim=(1, 2, 3)).tolist() == [0, 0, 0, 0]


def test_bins_are_means_of_samples_at_pixels() -> None:
    """A map whose value is the pixel of its cell's centre, x: the bins of a box from 8 to 40 have centres 16 and 32."""
    columns = (torch.arange(8, dtype=torch.float32) + 0.5) * 8
    pooled = region_features(
        [columns.expand(1, 1, 8, 8)], grid((8, 8)), Regions(torch.tensor([[8.0, 8, 40, 24]]), torch.tensor([0])), 2
    )
    torch.testing.assert_close(pooled[0, 0], torch.tensor([[16.0, 32], [16, 32]]))


def test_no_regions() -> None:
    maps = [torch.rand(1, 3, 8, 8, requires_grad=True), torch.rand(1, 3, 4, 4, requires_grad=True)]
    regions = best_regions(
        torch.rand(1, 5),
        lambda index: torch.zeros(len(index[0]), 4),
        torch.tensor([[64, 64]]),
        count=3,
        iou_threshold=0.5,
        smallest_side=1,
    )
    pooled = region_features(maps, grid((8, 8), (4, 4)), regions, 7)
    assert pooled.shape == (0, 3, 7, 7)
    for gradient in torch.autograd.grad(pooled.sum(), maps):
        assert (gradient == 0).all()
    nothing = Targets(torch.zeros(0, 4), torch.zeros(0).long(), torch.zeros(0).long(), torch.tensor([[64, 64]]))
    assert not any(largest_by_image(window, nothing).any() for window in object_windows(grid((8, 8)), nothing))
