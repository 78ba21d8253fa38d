from __future__ import annotations

import pytest
import torch

from detdistill.core.output import Output
from detdistill.core.structures import Assignment
from detdistill.distill.terms.decoupled import Decoupled
from detdistill.distill.view import View
from support.term_cases import bound, grid, objects, output


def sides() -> tuple[Output, Output]:
    """Features differ by (1, 2) in the upper left quarter and by (3, 1) elsewhere."""
    of = grid((4, 4))
    features = torch.tensor([3.0, 1.0])[:, None, None].repeat(1, 4, 4)[None]
    features[0, :, :2, :2] = torch.tensor([1.0, 2.0])[:, None, None]
    own = output(of, [torch.zeros(1, 2, 4, 4)], torch.zeros(1, 16, 1))
    return own, output(of, [features], torch.tensor(0.8).logit().expand(1, 16, 1))


def test_by_hand() -> None:
    own, other = sides()
    targets = objects([[0, 0, 16, 16]], side=32)
    nowhere = Assignment(torch.full((1, 16), -1))
    parts = bound(Decoupled(adapter="auto"), own, other)(View(own, other, nowhere, targets))
    assert {name: part.item() for name, part in parts.items()} == pytest.approx(
        {"foreground": 3 * 1.25, "background": 12 * 2.5}
    )


def test_classes_of_positives_and_background_are_apart() -> None:
    """p_t = .8, z_s = 0: KL .192745 at every candidate, so both means are that; without positives, one is 0."""
    own, other = sides()
    targets = objects([[0, 0, 16, 16]], side=32)
    term = bound(Decoupled(adapter="auto", classification=2), own, other)
    matched = torch.full((1, 16), -1)
    assert term(View(own, other, Assignment(matched), targets))["classification"].item() == pytest.approx(
        2 * 0.192745, rel=1e-5
    )
    matched = torch.tensor([[0, -2] + 14 * [-1]])
    parts = term(View(own, other, Assignment(matched), targets))
    assert parts["classification"].item() == pytest.approx(4 * 0.192745, rel=1e-5)
    unknown = objects([[0, 0, 16, 16]], side=32)
    unknown.labels[:] = -1
    parts = term(View(own, other, Assignment(matched), unknown))
    assert parts["classification"].item() == pytest.approx(2 * 0.192745, rel=1e-5)
