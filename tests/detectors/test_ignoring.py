from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.ignoring import CHUNK, ignore_background, mostly_inside
from support.box_strategies import boxes


def targets_of(ignored: Tensor, ignored_image: Tensor, images: int) -> Targets:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Targets(torch.zeros(0, 4), nothing, nothing, torch.full((images, 2), 64), ignored, ignored_image)


def candidates_of(boxes: Tensor) -> Candidates:
    """The priors `(P, 4)` of a grid of one cell, or each image's own boxes `(N, P, 4)`."""
    if boxes.dim() == 3:
        return Candidates(own=boxes)
    return Candidates(Grid(((1, 1),), ((8, 8),), (boxes,)))


def share(box: list[float], region: list[float]) -> float:
    """How much of a box's own area lies in a region."""
    width = max(min(box[2], region[2]) - max(box[0], region[0]), 0)
    height = max(min(box[3], region[3]) - max(box[1], region[1]), 0)
    area = (box[2] - box[0]) * (box[3] - box[1])
    return width * height / area if area else 0


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tensor, Tensor, Targets]:
    """Matches `(N, P)`, candidates `(P, 4)` or `(N, P, 4)`, and targets with ignored boxes."""
    images, count, regions = draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(0, 6))
    shared = draw(st.booleans())
    # Few and small sides, so that candidates often lie in regions, and often by exactly half.
    found = torch.stack([draw(boxes(count, 0, 64)) for _ in range(images)]) % 64
    found = torch.cat((found[..., :2], found[..., :2] + found[..., 2:]), dim=-1)
    corners = torch.tensor(draw(st.lists(st.integers(0, 64), min_size=2 * regions, max_size=2 * regions)))
    sides = torch.tensor(draw(st.lists(st.integers(1, 100), min_size=2 * regions, max_size=2 * regions)))
    corners, sides = corners.reshape(-1, 2).float(), sides.reshape(-1, 2).float()
    places = torch.tensor(sorted(draw(st.lists(st.integers(0, images - 1), min_size=regions, max_size=regions))))
    matches = st.lists(st.integers(IGNORED, 3), min_size=images * count, max_size=images * count)
    matched = torch.tensor(draw(matches)).reshape(images, count)
    targets = targets_of(torch.cat((corners, corners + sides), dim=1), places.long(), images)
    return matched, found[0] if shared else found, targets


@given(cases())
def test_the_rule_is_that_of_a_loop(case: tuple[Tensor, Tensor, Targets]) -> None:
    matched, candidates, targets = case
    expected = matched.tolist()
    for image, row in enumerate(expected):
        own = candidates if candidates.dim() == 2 else candidates[image]
        for place, box in enumerate(own.tolist()):
            regions = targets.ignored[targets.ignored_image == image].tolist()
            if row[place] == BACKGROUND and any(share(box, region) >= 0.5 for region in regions):
                row[place] = IGNORED
    before = matched.clone()
    assert ignore_background(Assignment(matched), candidates_of(candidates), targets).matched.tolist() == expected
    assert torch.equal(matched, before)


def test_exactly_half_is_enough_and_positives_stay() -> None:
    candidates = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10.1, 10], [0, 0, 4, 4], [20, 20, 30, 30], [2, 2, 2, 4]])
    matched = torch.tensor([[BACKGROUND, BACKGROUND, 0, BACKGROUND, BACKGROUND]])
    targets = targets_of(torch.tensor([[0.0, 0, 5, 10]]), torch.tensor([0]), 1)
    found = ignore_background(Assignment(matched), candidates_of(candidates), targets).matched
    assert found.tolist() == [[IGNORED, BACKGROUND, 0, BACKGROUND, BACKGROUND]]


def test_without_ignored_boxes_the_assignment_is_the_same_object() -> None:
    assignment = Assignment(torch.full((2, 3), BACKGROUND))
    nothing = targets_of(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), 2)
    assert ignore_background(assignment, Candidates(own=torch.rand(2, 3, 4)), nothing) is assignment


@given(st.integers(0, 3 * CHUNK))
def test_regions_of_every_chunk_count(place: int) -> None:
    regions = torch.tensor([[100.0, 100, 110, 110]]).repeat(3 * CHUNK + 1, 1)
    regions[place] = torch.tensor([0.0, 0, 8, 8])
    assert mostly_inside(torch.tensor([[1.0, 1, 5, 5], [50, 50, 60, 60]]), regions).tolist() == [True, False]
