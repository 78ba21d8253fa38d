from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.distill.candidates import positives_and_best
from detdistill.structures import BACKGROUND, Assignment, Targets
from term_cases import grid, objects

GRID = grid((4, 4), (2, 2))  # centres at 8, 16, 24 and 32 in both directions, and at 16 and 32
ALL = torch.tensor([True, True])


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
