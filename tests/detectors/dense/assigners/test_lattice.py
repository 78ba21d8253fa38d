from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.overrides import TorchFunctionMode

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.dense.assigners import AtssAssigner, FcosAssigner, MaxIouAssigner
from detdistill.detectors.dense.assigners.lattice import Lattice, best_claims
from detdistill.detectors.dense.priors import anchor_boxes, cell_boxes
from detdistill.detectors.ignoring import ignore_background
from support.assigner_cases import batches, grids, renamed, select_images

STRIDES = (8, 16, 32, 64, 128)
RANGES = ((-1.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, math.inf))
ANCHORS = {
    "max_iou": anchor_boxes(STRIDES, [4 * 2 ** (k / 3) for k in range(3)], (0.5, 1, 2)),
    "atss": anchor_boxes(STRIDES, [8], [1]),
    "fcos": cell_boxes(STRIDES),
}
ASSIGNERS: dict[str, Callable[[Grid, Targets], Assignment]] = {
    "max_iou": MaxIouAssigner(),
    "atss": AtssAssigner(),
    "fcos": FcosAssigner(RANGES),
}

every_grid = grids([[(1, 1)], [(2, 3), (4, 1)]])
windows = st.floats(-40, 40)


def grid_of(name: str, height: int, width: int) -> Grid:
    sizes = tuple((math.ceil(height / stride), math.ceil(width / stride)) for stride in STRIDES)
    return Grid(sizes, tuple((stride, stride) for stride in STRIDES), tuple(ANCHORS[name]))


@given(every_grid)
def test_priors_and_their_index_are_the_grids(grid: Grid) -> None:
    lattice = Lattice.of(grid)
    whole = torch.full((1, len(lattice.boxes), 2), 1000.0, dtype=torch.float64)
    item, base, cell = lattice.cells_between(-whole, whole)
    index = lattice.prior_index(base, cell)
    assert torch.equal(index.sort().values, torch.arange(grid.num_priors))
    assert torch.equal(item, torch.zeros_like(index))
    torch.testing.assert_close(lattice.priors(base, cell).float(), grid.priors[index])


@given(every_grid, st.lists(st.tuples(windows, windows, windows, windows), max_size=3))
def test_cells_between_are_the_whole_ones_inside_the_lattice(
    grid: Grid, drawn: list[tuple[float, float, float, float]]
) -> None:
    lattice = Lattice.of(grid)
    corners = torch.tensor(drawn, dtype=torch.float64).reshape(-1, 1, 4).expand(-1, len(lattice.boxes), -1)
    found = lattice.cells_between(corners[..., :2], corners[..., 2:])
    expected = [
        (item, base, column, row)
        for item, (left, top, right, bottom) in enumerate(drawn)
        for base, (columns, rows) in enumerate(lattice.cells.tolist())
        for row in range(rows)
        for column in range(columns)
        if left <= column <= right and top <= row <= bottom
    ]
    assert [(i, b, c, r) for i, b, (c, r) in zip(*(part.tolist() for part in found), strict=True)] == expected


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0]), st.integers(0, 5)), unique=True))
def test_a_place_goes_to_the_highest_claim_and_the_first_of_equals(claims: list[tuple[int, float, int]]) -> None:
    claims = list({(place, item): (place, score, item) for place, score, item in claims}.values())
    place, score, item = (
        (torch.tensor(column) for column in zip(*claims, strict=True)) if claims else [torch.zeros(0)] * 3
    )
    stands = best_claims(place.long(), score, item.long()).tolist()
    winners = {place: max((c for c in claims if c[0] == place), key=lambda c: (c[1], -c[2])) for place, _, _ in claims}
    assert stands == [winners[claim[0]] == claim for claim in claims]


@pytest.mark.parametrize("name", ASSIGNERS)
@given(batches())
def test_an_image_is_assigned_in_a_batch_as_it_is_alone(name: str, targets: Targets) -> None:
    grid = grid_of(name, 128, 160)
    together = ASSIGNERS[name](grid, targets).matched
    for image in range(targets.num_images):
        alone, index = select_images(targets, [image])
        assert torch.equal(renamed(ASSIGNERS[name](grid, alone).matched, index), together[image : image + 1])


class LargestTensor(TorchFunctionMode):
    """Remembers the number of elements of the largest tensor made, besides those of `result` elements."""

    def __init__(self, result: int) -> None:
        super().__init__()
        self.result = result
        self.largest = 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> object:
        made = func(*args, **(kwargs or {}))
        for tensor in made if isinstance(made, tuple) else (made,):
            if isinstance(tensor, Tensor) and tensor.numel() != self.result:
                self.largest = max(self.largest, tensor.numel())
        return made


def largest_intermediate(name: str, boxes: Tensor, height: int, width: int) -> int:
    grid = grid_of(name, height, width)
    zeros = torch.zeros(len(boxes), dtype=torch.int64)
    targets = Targets(boxes, zeros, zeros, torch.tensor([[height, width]]))
    mode = LargestTensor(grid.num_priors)
    with mode:
        ASSIGNERS[name](grid, targets)
    return mode.largest


@pytest.mark.parametrize("name", ASSIGNERS)
@given(targets=batches(), regions=batches())
def test_every_assigner_ignores_background_inside_ignored_boxes(name: str, targets: Targets, regions: Targets) -> None:
    grid = grid_of(name, 128, 128)
    known = regions.image < targets.num_images
    ignoring = replace(targets, ignored=regions.boxes[known], ignored_image=regions.image[known])
    plain, found = ASSIGNERS[name](grid, targets), ASSIGNERS[name](grid, ignoring)
    assert torch.equal(found.matched, ignore_background(plain, Candidates(grid), ignoring).matched)


@pytest.mark.parametrize("name", ASSIGNERS)
def test_an_ignored_image_has_no_background_but_under_large_priors(name: str) -> None:
    grid = grid_of(name, 128, 128)
    nothing = Targets.from_images([torch.zeros(0, 4)] * 2, [torch.zeros(0, dtype=torch.int64)] * 2, torch.zeros(2, 2))
    everything = torch.tensor([[0.0, 0, 128, 128]])
    ignoring = replace(nothing, ignored=everything, ignored_image=torch.tensor([1]))
    first, second = ASSIGNERS[name](grid, ignoring).matched
    inside = ((grid.priors >= 0) & (grid.priors <= 128)).all(dim=1)
    assert inside.any()
    assert (first == BACKGROUND).all()
    assert (second[inside] == IGNORED).all()


@pytest.mark.parametrize("name", ASSIGNERS)
def test_memory_is_that_of_the_priors_near_the_objects_and_not_of_the_image(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    corner, side = torch.rand(2, 50, 2, generator=generator).unbind()
    boxes = torch.cat((corner * 400, corner * 400 + side * 200 + 8), dim=1)
    assert largest_intermediate(name, boxes, 2400, 3200) <= 1.1 * largest_intermediate(name, boxes, 640, 640)


@pytest.mark.parametrize("name", ASSIGNERS)
def test_memory_is_bounded_for_boxes_as_large_as_the_image(name: str) -> None:
    boxes = torch.tensor([[0.0, 0, 1333, 800]]).repeat(50, 1)
    assert largest_intermediate(name, boxes, 800, 1333) < 0.05 * len(boxes) * grid_of(name, 800, 1333).num_priors
