from __future__ import annotations

from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.boxes import pairwise_iou
from detdistill.core.grid import Grid
from detdistill.core.output import DENSE
from detdistill.core.structures import Assignment
from detdistill.distill.class_map import identical_classes
from detdistill.distill.grid_correspondence import grid_correspondence
from detdistill.distill.terms.fine_grained import FineGrained, near_object_cells
from detdistill.distill.view import View
from detdistill.teachers.teacher import Guidance
from support.term_cases import bound, grid, objects, output


def test_cells_by_hand() -> None:
    """One cell and anchor on each level, with IoU .3, .41 and .8: above half of the largest are the last two."""
    anchors = torch.tensor([[[0, 0, 10, height]] for height in (3, 4.1, 8)])
    of = Grid(((1, 1),) * 3, ((8, 8), (16, 16), (32, 32)), tuple(anchors))
    cells = near_object_cells(of, objects([[0, 0, 10, 10]], side=32), 0.5)
    assert [bool(level) for level in cells] == [False, True, True]
    exactly = torch.tensor([[[0, 0, 10, height]] for height in (2, 4, 8)])
    cells = near_object_cells(Grid(of.sizes, of.strides, tuple(exactly)), objects([[0, 0, 10, 10]], side=32), 0.5)
    assert [bool(level) for level in cells] == [False, False, True], "the threshold itself is not above it"


@given(seed=st.integers(0, 10**6), count=st.integers(0, 4), share=st.sampled_from([0.2, 0.5, 0.9]))
def test_cells_are_those_of_the_definition(seed: int, count: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(count, 2, generator=generator) * 50
    boxes = torch.cat((start, start + 1 + torch.rand(count, 2, generator=generator) * 30), dim=1)
    image = sorted(torch.randint(0, 2, (count,), generator=generator).tolist())
    of = grid((8, 8), (4, 4), anchors=[[0, 0, 16, 16], [0, 0, 10, 24]])
    cells = near_object_cells(of, objects(boxes.tolist(), image=image, images=2), share)
    expected = [torch.zeros(2, *size, dtype=torch.bool) for size in of.sizes]
    for box, number in zip(boxes, image, strict=True):
        iou = pairwise_iou(box[None], of.priors)
        for level, part in zip(expected, of.split(iou), strict=True):
            level[number] |= (part.view(*level.shape[1:], 2) > share * iou.max()).any(dim=-1)
    assert all(torch.equal(own, other) for own, other in zip(cells, expected, strict=True))


@pytest.mark.parametrize(("normalizer", "expected"), [("locations", 2.5), ("elements", 1.25)])
def test_by_hand(normalizer: Literal["locations", "elements"], expected: float) -> None:
    """Features differ by (1, 2) in all cells."""
    of = grid((4, 4))
    own = output(of, [torch.zeros(1, 2, 4, 4)], torch.zeros(1, 16, 1))
    other = output(of, [torch.tensor([1.0, 2.0])[:, None, None].expand(1, 2, 4, 4)], torch.zeros(1, 16, 1))
    term = bound(FineGrained(adapter="auto", normalizer=normalizer), own, other)
    loss = term(View(own, other, Assignment(torch.full((1, 16), -1)), objects([[0, 0, 16, 16]], side=32)))
    assert loss["features"].item() == pytest.approx(expected)


def test_cells_of_objects_count_all_anchors_where_cells_are_compared() -> None:
    """The teacher has one anchor in each cell; the object is like the second of the student's."""
    own = grid((4, 4), anchors=[[0, 0, 4, 4], [0, 0, 32, 8]])
    other = grid((4, 4))
    student = output(own, [torch.zeros(1, 2, 4, 4)], torch.zeros(1, 32, 1))
    teacher = output(other, [torch.ones(1, 2, 4, 4)], torch.zeros(1, 16, 1))
    background, targets = Assignment(torch.full((1, 32), -1)), objects([[0, 0, 32, 8]], side=32)
    aligned = grid_correspondence(own.strides, other.strides, identical_classes(("cat",)))(
        student, Guidance(teacher), {DENSE: background}, targets
    )
    term = bound(FineGrained(adapter="auto", share=0.9), aligned.student, aligned.teacher)
    cells = near_object_cells(aligned.student.predictions.anchors, aligned.targets, 0.9)
    assert [level.nonzero().tolist() for level in cells] == [[[0, 0, 0]]]
    loss = term(aligned)
    assert loss["features"].item() == pytest.approx(1)
