from __future__ import annotations

import math
from random import Random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import Golden
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.structures import BACKGROUND, Targets
from detdistill.detectors.dense.assigners import FcosAssigner
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
from support.assigner_oracle import fcos_oracle

point_grids = grids([[(1, 1)]], offset=0.5)
radii = st.sampled_from([None, 0.5, 1.5, 3.0])
RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, math.inf))


def fcos_for(grid: Grid, radius: float | None = None) -> FcosAssigner:
    return FcosAssigner(RANGES[: grid.num_levels], radius)


@pytest.mark.golden
@pytest.mark.parametrize("case", GOLDEN_CASES)
@pytest.mark.parametrize(("suffix", "radius"), [("_center", 1.5), ("_nocenter", None)])
def test_golden(golden: Golden, case: str, suffix: str, radius: float | None) -> None:
    vectors = golden("assign_fcos")
    strides = torch.from_numpy(vectors["strides"]).float()
    cells = torch.stack((strides * 0, strides * 0, strides, strides), dim=-1)[:, None]
    sizes = tuple((height, width) for height, width in vectors["feat_sizes"].tolist())
    grid = Grid(sizes, tuple((stride, stride) for stride in vectors["strides"].tolist()), tuple(cells))
    torch.testing.assert_close(grid.centers, torch.from_numpy(vectors["points"]), atol=1e-3, rtol=0)
    ranges = tuple((smallest, largest) for smallest, largest in vectors["regress_ranges"].tolist())
    matched = FcosAssigner(ranges, radius)(grid, golden_case(vectors, case)).matched
    assert_equal_but_ambiguous(matched, vectors, case, suffix)


@pytest.mark.golden
def test_golden_torchvision(golden: Golden) -> None:
    vectors = golden("tv_fcos")
    grid = lattice_of_priors(vectors["anchors"], vectors["feat_sizes"])
    targets, theirs = torchvision_case(vectors)
    sides = [float(anchors[0, 2] - anchors[0, 0]) for anchors in grid.base_anchors]
    # Ours are inclusive, torchvision's are not.
    ranges = [(math.nextafter(4 * side, math.inf), math.nextafter(8 * side, 0)) for side in sides]
    ranges[0] = (0, ranges[0][1])
    ranges[-1] = (ranges[-1][0], math.inf)
    assert torch.equal(FcosAssigner(tuple(ranges), 1.5)(grid, targets).matched, theirs)


@settings(max_examples=200)
@given(radii, point_grids, batches())
def test_equals_the_plain_implementation(radius: float | None, grid: Grid, targets: Targets) -> None:
    assigner = fcos_for(grid, radius)
    assert torch.equal(assigner(grid, targets).matched, fcos_oracle(assigner, grid, targets))


@given(point_grids, batches(), st.randoms(use_true_random=False))
def test_order_of_the_images_does_not_matter(grid: Grid, targets: Targets, random: Random) -> None:
    order = list(range(targets.num_images))
    random.shuffle(order)
    shuffled, index = select_images(targets, order)
    matched = fcos_for(grid)(grid, targets).matched
    assert torch.equal(renamed(fcos_for(grid)(grid, shuffled).matched, index), matched[order])


@given(radii, point_grids, batches(), st.integers(0, 3), st.integers(0, 3))
def test_padding_changes_nothing(radius: float | None, grid: Grid, targets: Targets, rows: int, columns: int) -> None:
    assigner = fcos_for(grid, radius)
    padded = Grid(tuple((h + rows, w + columns) for h, w in grid.sizes), grid.strides, grid.base_anchors)
    levels = zip(
        padded.unflatten(assigner(padded, targets).matched[..., None]),
        grid.unflatten(assigner(grid, targets).matched[..., None]),
        strict=True,
    )
    for larger, level in levels:
        assert torch.equal(larger[..., : level.shape[-2], : level.shape[-1]], level)


def test_ranges_are_inclusive_at_both_ends() -> None:
    """The one point is (4, 4), 64 pixels from the object's right side: both levels learn it."""
    grid = Grid(((1, 1), (1, 1)), ((8, 8), (8, 8)), tuple(torch.tensor([[(0.0, 0, 8, 8)]] * 2)))
    matched = FcosAssigner(RANGES[:2])(grid, single(torch.tensor([[0.0, 0, 68, 8]]))).matched
    assert matched.tolist() == [[0, 0]]


def test_a_point_on_the_side_is_not_inside() -> None:
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.tensor([[(0.0, 0, 8, 8)]])))
    assigner = FcosAssigner(RANGES[:1])
    assert assigner(grid, single(torch.tensor([[4.0, 0, 8, 8]]))).matched.tolist() == [[BACKGROUND]]
    assert assigner(grid, single(torch.tensor([[3.9, 0, 8, 8]]))).matched.tolist() == [[0]]


def test_the_smaller_object_gets_the_point_and_the_first_of_equals() -> None:
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.tensor([[(0.0, 0, 8, 8)]])))
    boxes = torch.tensor([[0.0, 0, 9, 9], [0, 0, 8, 6], [0, 0, 6, 8]])
    assert FcosAssigner(RANGES[:1])(grid, single(boxes)).matched.tolist() == [[1]]


def test_levels_and_anchors_that_do_not_fit_are_refused() -> None:
    grid = Grid(((1, 1),), ((8, 8),), tuple(torch.zeros(1, 2, 4)))
    with pytest.raises(DetdistillError, match=r"2 regression ranges .* for 1 levels"):
        FcosAssigner(RANGES[:2])(grid, single(torch.zeros(0, 4)))
    with pytest.raises(DetdistillError, match="2 anchors in a cell"):
        FcosAssigner(RANGES[:1])(grid, single(torch.zeros(0, 4)))
