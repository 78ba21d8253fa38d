from __future__ import annotations

from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Golden
from detdistill.core.boxes import pairwise_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.structures import BACKGROUND, Targets
from detdistill.detectors.dense.assigners import AtssAssigner
from detdistill.detectors.dense.assigners.atss_assigner import threshold_of
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
)
from support.assigner_oracle import atss_oracle

atss_grids = grids([[(8, 8)], [(1, 1)], [(2.8, 5.6)]])


@pytest.mark.golden
@pytest.mark.parametrize("case", GOLDEN_CASES)
def test_golden(golden: Golden, case: str) -> None:
    vectors = golden("assign_atss")
    grid = lattice_of_priors(vectors["priors"], vectors["feat_sizes"])
    torch.testing.assert_close(grid.priors, torch.from_numpy(vectors["priors"]), atol=1e-3, rtol=0)
    assert_equal_but_ambiguous(AtssAssigner()(grid, golden_case(vectors, case)).matched, vectors, case)


@settings(max_examples=200)
@given(st.sampled_from([1, 2, 4, 9, 12]), atss_grids, batches())
def test_equals_the_plain_implementation(topk: int, grid: Grid, targets: Targets) -> None:
    assigner = AtssAssigner(topk)
    assert torch.equal(assigner(grid, targets).matched, atss_oracle(assigner, grid, targets))


@given(atss_grids, batches(), st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(grid: Grid, targets: Targets, random: Random) -> None:
    order = list(range(targets.num_images))
    random.shuffle(order)
    shuffled, index = select_images(targets, order)
    matched = AtssAssigner()(grid, targets).matched
    assert torch.equal(renamed(AtssAssigner()(grid, shuffled).matched, index), matched[order])


def test_threshold_by_hand() -> None:
    iou = torch.tensor([[0.1, 0.3, 0.5, 0.7, 9.0]], dtype=torch.float64)
    exists = torch.tensor([[True, True, True, True, False]])
    assert threshold_of(iou, exists).item() == pytest.approx(0.658199, abs=1e-6)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=45))
def test_threshold_is_mean_plus_unbiased_deviation(values: list[float]) -> None:
    iou = torch.tensor([values], dtype=torch.float64)
    expected = iou.mean(dim=1) + iou.std(dim=1)
    torch.testing.assert_close(threshold_of(iou, torch.ones_like(iou, dtype=torch.bool)), expected)


def test_a_lone_candidate_is_its_own_threshold() -> None:
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.tensor([[(-8.0, -8, 8, 8)]])))
    assert AtssAssigner()(grid, single(torch.tensor([[-4.0, -4, 4, 4]]))).matched.tolist() == [[0]]


def test_a_centre_on_the_side_is_not_inside() -> None:
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.tensor([[(-8.0, -8, 8, 8)]])))
    for x1, inside in ((-0.01, False), (-0.02, True)):
        matched = AtssAssigner()(grid, single(torch.tensor([[x1, -4, 8, 4]], dtype=torch.float64))).matched
        assert matched.tolist() == [[0 if inside else BACKGROUND]]


def test_the_first_of_two_equal_objects_gets_the_priors() -> None:
    grid = Grid(((4, 4),), ((8, 8),), tuple(torch.tensor([[(-8.0, -8, 8, 8)]])))
    matched = AtssAssigner()(grid, single(torch.tensor([[4.0, 4, 20, 20]] * 2))).matched
    assert set(matched.flatten().tolist()) == {BACKGROUND, 0}


def test_several_anchors_per_cell_are_refused() -> None:
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.zeros(1, 3, 4)))
    with pytest.raises(DetdistillError, match="3 anchors in a cell"):
        AtssAssigner()(grid, single(torch.zeros(0, 4)))


def test_thresholds_are_of_the_candidates_overlaps() -> None:
    """Levels of at most nine cells: every prior is a candidate of every object of its image."""
    grid = Grid(
        ((3, 3), (2, 2)), ((8, 8), (16, 16)), tuple(torch.tensor([[[-8.0, -8, 24, 24]], [[-16.0, -16, 32, 32]]]))
    )
    boxes = torch.tensor([[1.0, 2, 20, 30], [4, 4, 12, 9]])
    targets = Targets(boxes, torch.zeros(2).long(), torch.tensor([0, 1]), torch.tensor([[32, 32]] * 2))
    iou = pairwise_iou(boxes.double(), grid.priors.double())
    torch.testing.assert_close(AtssAssigner().thresholds(grid, targets), iou.mean(dim=1) + iou.std(dim=1))
    nothing = Targets.from_images([boxes[:0]], [targets.labels[:0]], targets.sizes[:1])
    assert AtssAssigner().thresholds(grid, nothing).shape == (0,)
