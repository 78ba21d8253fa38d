from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Golden
from detdistill.core.boxes import pairwise_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.structures import BACKGROUND, IGNORED, Targets
from detdistill.detectors.dense.assigners import MaxIouAssigner, Region
from support.assigner_cases import (
    GOLDEN_CASES,
    assert_equal_but_ambiguous,
    batches,
    golden_case,
    grids,
    lattice_of_priors,
    renamed,
    select_images,
    single,
    torchvision_case,
)
from support.assigner_oracle import max_iou_oracle

anchor_grids = grids([[(4, 4)], [(5.6, 2.8), (4, 4), (2.8, 5.6)], [(1, 1), (8, 8)]])
assigners = st.builds(
    lambda negative, margin, *others: MaxIouAssigner(negative, max(negative - margin, 0.05), *others),
    st.sampled_from([0.1, 0.5, 0.7]),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([0.0, 0.3]),
    st.booleans(),
    st.sampled_from([None, Region(32), Region(16, inside=True)]),
    st.booleans(),
)


@pytest.mark.golden
@pytest.mark.parametrize("case", GOLDEN_CASES)
@pytest.mark.parametrize(("suffix", "low_quality"), [("", True), ("_nolowq", False)])
def test_golden(golden: Golden, case: str, suffix: str, low_quality: bool) -> None:
    vectors = golden("assign_maxiou")
    grid = lattice_of_priors(vectors["priors"], vectors["feat_sizes"])
    torch.testing.assert_close(grid.priors, torch.from_numpy(vectors["priors"]), atol=1e-3, rtol=0)
    matched = MaxIouAssigner(match_low_quality=low_quality)(grid, golden_case(vectors, case)).matched
    assert_equal_but_ambiguous(matched, vectors, case, suffix)


@pytest.mark.golden
def test_golden_torchvision(golden: Golden) -> None:
    """torchvision gives an object's best anchors to whatever object they overlap most, we to that object."""
    vectors = golden("tv_retinanet")
    grid = lattice_of_priors(vectors["anchors"], vectors["feat_sizes"])
    targets, theirs = torchvision_case(vectors)
    ours = MaxIouAssigner()(grid, targets).matched
    iou = pairwise_iou(targets.boxes.double(), grid.priors.double())
    image, prior = (ours != theirs).nonzero(as_tuple=True)
    mine, other = ours[image, prior], theirs[image, prior]
    assert (mine >= 0).all()
    assert (other >= 0).all()
    assert (iou[mine, prior] == iou[mine].amax(dim=1)).all()
    assert (iou[other, prior] > iou[mine, prior]).all()


@settings(max_examples=200)
@given(assigners, anchor_grids, batches())
def test_equals_the_plain_implementation(assigner: MaxIouAssigner, grid: Grid, targets: Targets) -> None:
    smaller = torch.tensor([[128, 128], [70, 100], [33, 24]])[: targets.num_images]
    targets = replace(targets, sizes=smaller)
    assert torch.equal(assigner(grid, targets).matched, max_iou_oracle(assigner, grid, targets))


@given(anchor_grids, batches(), st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(grid: Grid, targets: Targets, random: Random) -> None:
    order = list(range(targets.num_images))
    random.shuffle(order)
    shuffled, index = select_images(targets, order)
    matched = MaxIouAssigner()(grid, targets).matched
    assert torch.equal(renamed(MaxIouAssigner()(grid, shuffled).matched, index), matched[order])


@given(anchor_grids, batches(), st.integers(0, 3), st.integers(0, 3))
def test_padding_leaves_what_does_not_hang_on_the_best_anchor(
    grid: Grid, targets: Targets, rows: int, columns: int
) -> None:
    assigner = MaxIouAssigner(match_low_quality=False)
    padded = Grid(tuple((h + rows, w + columns) for h, w in grid.sizes), grid.strides, grid.base_anchors)
    levels = zip(
        padded.unflatten(assigner(padded, targets).matched[..., None]),
        grid.unflatten(assigner(grid, targets).matched[..., None]),
        strict=True,
    )
    for larger, level in levels:
        assert torch.equal(larger[..., : level.shape[-2], : level.shape[-1]], level)


def one_cell(*sides: float) -> Grid:
    return Grid(((1, 1),), ((8, 8),), tuple(torch.tensor([[(0, 0, side, side) for side in sides]])))


def test_thresholds_are_inclusive_and_what_lies_between_is_ignored() -> None:
    """Squares of area 16 in anchors of area 32, 40 and 41: IoU 0.5, 0.4 and less."""
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.tensor([[(0.0, 0, 8, 4), (0, 0, 8, 5), (0, 0, 8, 5.125)]])))
    targets = single(torch.tensor([[0.0, 0, 4, 4]]))
    for low_quality in (True, False):
        assert MaxIouAssigner(match_low_quality=low_quality)(grid, targets).matched.tolist() == [
            [0, IGNORED, BACKGROUND]
        ]


def test_every_object_keeps_its_best_anchors_and_the_later_object_takes_them() -> None:
    grid = one_cell(16, 4)
    small = [0.0, 0, 2, 2]
    assert MaxIouAssigner()(grid, single(torch.tensor([small]))).matched.tolist() == [[BACKGROUND, 0]]
    # The anchor of side 4 is the second object's equal, and yet the third object's best.
    boxes = torch.tensor([[0.0, 0, 16, 16], [0, 0, 4, 4], small])
    assert MaxIouAssigner()(grid, single(boxes)).matched.tolist() == [[0, 2]]
    assert MaxIouAssigner(minimum=0.25)(grid, single(boxes)).matched.tolist() == [[0, 2]]
    assert MaxIouAssigner(minimum=0.26)(grid, single(boxes)).matched.tolist() == [[0, 1]]


def test_all_tied_best_anchors_are_positive() -> None:
    grid = Grid(((3, 3),), ((8, 8),), tuple(torch.tensor([[(-8.0, -8, 8, 8)]])))
    matched = MaxIouAssigner()(grid, single(torch.tensor([[3.0, 3, 4, 4]]))).matched
    assert matched.view(3, 3).tolist() == [[0, 0, -1], [0, 0, -1], [-1, -1, -1]]


@pytest.mark.parametrize("box", [(900.0, 0, 910, 10), (5.0, 5, 5, 5)], ids=["far outside", "no area"])
def test_an_object_that_overlaps_nothing_gets_nothing(box: tuple[float, ...]) -> None:
    matched = MaxIouAssigner()(one_cell(16), single(torch.tensor([box]))).matched
    assert matched.tolist() == [[BACKGROUND]]


def test_result_is_int64_and_carries_no_gradient() -> None:
    boxes = torch.tensor([[0.0, 0, 16, 16]], requires_grad=True)
    matched = MaxIouAssigner()(one_cell(16), single(boxes)).matched
    assert matched.dtype == torch.int64
    assert not matched.requires_grad


def test_thresholds_out_of_order_are_refused() -> None:
    with pytest.raises(DetdistillError, match=r"negative 0\.6 and positive 0\.5"):
        MaxIouAssigner(positive=0.5, negative=0.6)


def test_a_single_best_anchor_goes_to_the_first_object() -> None:
    anchors = torch.tensor([[0.0, 0.0, 8.0, 8.0]])
    grid = Grid(((1, 2),), ((8.0, 8.0),), (anchors,))
    both = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 3.0, 3.0], [7.0, 0.0, 9.0, 8.0]])
    zeros = torch.zeros(3, dtype=torch.int64)
    targets = Targets(both, zeros, zeros, torch.tensor([[8, 16]]))
    rule = MaxIouAssigner(positive=0.5, negative=0.5, single_best=True)
    # The first two want the same anchor, which the third takes as the first of two equals, too.
    assert rule(grid, targets).matched.tolist() == [[0, BACKGROUND]]
    assert replace(rule, single_best=False)(grid, targets).matched.tolist() == [[2, 2]]
