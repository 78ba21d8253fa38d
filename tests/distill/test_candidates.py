from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.dense.priors import cell_boxes
from detdistill.distill.candidates import object_cells, positive_cells, positives_and_best, taught_positives
from support.term_cases import grid, objects

GRID = grid((4, 4), (2, 2))  # centres at 8, 16, 24 and 32 in both directions, and at 16 and 32
ALL = torch.tensor([True, True])

STRIDES = (8, 16)
SIZES = ((4, 6), (2, 3))


def by_prior(_: Tensor, priors: Tensor) -> Tensor:
    return priors.float()


def test_lists_by_hand() -> None:
    """The first object holds the centres of priors 0, 1, 4, 5 and 16, the second those of 5, 6, 9, 10 and 16."""
    targets = objects([[4, 4, 20, 20], [12, 12, 28, 28]])
    matched = torch.full((1, GRID.num_priors), BACKGROUND)
    matched[0, 15], matched[0, 5] = 0, 1
    one_score = positives_and_best(GRID, Assignment(matched), targets, [by_prior], 2, ALL)
    assert torch.stack(one_score, dim=1).tolist() == [[0, 5], [0, 15], [0, 16], [1, 5], [1, 10], [1, 16]]
    both_ends = [by_prior, lambda *pair: -by_prior(*pair)]
    two_scores = positives_and_best(GRID, Assignment(matched), targets, both_ends, 1, torch.tensor([True, False]))
    assert torch.stack(two_scores, dim=1).tolist() == [[0, 0], [0, 15], [0, 16]]


def test_without_objects_there_are_no_lists() -> None:
    nothing = torch.full((2, GRID.num_priors), BACKGROUND)
    targets = objects([], images=2)
    found = positives_and_best(GRID, Assignment(nothing), targets, [by_prior], 9, targets.labels >= 0)
    assert [len(each) for each in found] == [0, 0]


@given(st.integers(0, 10**6), st.integers(1, 8))
def test_the_best_of_every_object(seed: int, k: int) -> None:
    """Against sorting one object's candidates after the other."""
    generator = torch.Generator().manual_seed(seed)
    start = torch.rand(5, 2, generator=generator) * 24
    boxes = torch.cat((start, start + torch.rand(5, 2, generator=generator) * 30), dim=1)
    image = torch.tensor([0, 0, 1, 1, 1])
    targets = Targets(boxes, torch.zeros_like(image), image, torch.tensor([[40, 40], [40, 40]]))
    matched = torch.randint(-9, 5, (2, GRID.num_priors), generator=generator).clamp(min=BACKGROUND)
    matched[image[matched] != torch.tensor([[0], [1]])] = BACKGROUND
    tables = torch.rand(2, 2, GRID.num_priors, generator=generator)  # of each detector and image

    expected = {(int(own), int(prior)) for n in range(2) for prior, own in enumerate(matched[n]) if own >= 0}
    for own, (left, top, right, bottom) in enumerate(boxes.tolist()):
        inside = [p for p, (x, y) in enumerate(GRID.centers.tolist()) if left <= x < right and top <= y < bottom]
        for table in tables[:, image[own]].tolist():
            expected |= {(own, prior) for prior in sorted(inside, key=lambda p: -table[p])[:k]}
    scores = [lambda own, prior, table=table: table[image[own], prior] for table in tables]
    found = positives_and_best(GRID, Assignment(matched), targets, scores, k, targets.labels >= 0)
    assert [tuple(pair) for pair in torch.stack(found, dim=1).tolist()] == sorted(expected)


def test_positives_of_unknown_classes_are_left_out() -> None:
    boxes = torch.arange(12.0).view(3, 4)
    targets = Targets(boxes, torch.tensor([2, BACKGROUND, 0]), torch.tensor([0, 0, 1]), torch.tensor([[9, 9], [9, 9]]))
    (image, prior), goals = taught_positives(Assignment(torch.tensor([[0, 1, -1, 0], [-2, 2, -1, -1]])), targets)
    assert image.tolist() == [0, 0, 1]
    assert prior.tolist() == [0, 3, 1]
    assert torch.equal(goals, boxes[[0, 0, 2]])


def level_grid(anchors: int) -> Grid:
    return Grid(
        SIZES,
        tuple((stride, stride) for stride in STRIDES),
        tuple(boxes.repeat(anchors, 1) for boxes in cell_boxes(STRIDES)),
    )


def test_a_cell_is_positive_if_one_of_its_anchors_is() -> None:
    layout = level_grid(anchors=2)
    matched = torch.full((2, layout.num_priors), BACKGROUND)
    matched[1, 2 * (6 + 3) + 1] = 5  # level 0, row 1, column 3
    matched[0, 2 * (24 + 4)] = 0  # level 1, row 1, column 1
    matched[0, 3] = IGNORED
    fine, coarse = positive_cells(layout, Assignment(matched))
    assert fine.nonzero().tolist() == [[1, 1, 3]]
    assert coarse.nonzero().tolist() == [[0, 1, 1]]


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 28), st.integers(1, 30), st.integers(1, 30)),
        max_size=4,
    )
)
def test_cells_of_objects_are_those_whose_centre_is_in_a_box(objects: list[tuple[int, int, int, int, int]]) -> None:
    objects = sorted(objects)
    boxes = torch.tensor([(x, y, x + w, y + h) for _, x, y, w, h in objects], dtype=torch.float32).reshape(-1, 4)
    image = torch.tensor([each[0] for each in objects], dtype=torch.int64)
    targets = Targets(boxes, torch.zeros_like(image), image, torch.tensor([[32, 48], [32, 48]]))
    layout = level_grid(anchors=1)
    for found, (rows, columns), stride in zip(object_cells(layout, targets), SIZES, STRIDES, strict=True):
        assert found.shape == (2, rows, columns)
        for n in range(2):
            for i in range(rows):
                for j in range(columns):
                    x, y = (j + 0.5) * stride, (i + 0.5) * stride
                    inside = any(n == own and a <= x < a + w and b <= y < b + h for own, a, b, w, h in objects)
                    assert found[n, i, j] == inside
