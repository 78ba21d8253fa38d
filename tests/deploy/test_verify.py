from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.structures import Detections
from detdistill.deploy.verify import BOX, CLOSE, SCORE, is_excused, partners
from detdistill.detectors.postprocess import PostProcessing

RULES = PostProcessing(score_threshold=0.05, iou_threshold=0.6, max_detections=100)


def detections(*rows: tuple[float, float, float, float, float, int]) -> Detections:
    table = torch.tensor(rows, dtype=torch.float32).view(-1, 6)
    return Detections(table[:, :4], table[:, 4], table[:, 5].long())


def test_partners_are_near_in_box_score_and_class() -> None:
    one = detections((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10, 0.9, 1), (50, 0, 60, 10, 0.5, 0))
    other = detections((0, 0, 10 + BOX / 2, 10, 0.9, 1), (50, 0, 60, 10 + 2 * BOX, 0.5, 0), (0, 0, 10, 10, 0.9, 0))
    assert sorted(partners(one, other)) == [(0, 2), (1, 0)]
    assert partners(one, detections()) == []
    assert partners(detections((0, 0, 1, 1, 0.5, 0)), detections((0, 0, 1, 1, 0.5 + 2 * SCORE, 0))) == []


def test_each_has_one_partner_only_the_nearest_first() -> None:
    one = detections((0, 0, 10, 10, 0.9, 0), (0, 0, 10, 10.2, 0.9, 0))
    other = detections((0, 0, 10, 10.2, 0.9, 0))
    assert partners(one, other) == [(1, 0)]


@given(order=st.permutations(range(6)), seed=st.integers(0, 1000))
def test_the_order_does_not_matter(order: list[int], seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    start = torch.rand(6, 2, generator=random) * 100
    one = Detections(torch.cat((start, start + 20), dim=1), torch.rand(6, generator=random), torch.arange(6) % 2)
    other = Detections(one.boxes[list(order)], one.scores[list(order)], one.labels[list(order)])
    assert len(partners(one, other)) == 6


@pytest.mark.parametrize(
    ("missing", "excused"),
    [
        ((0, 0, 10, 10, 0.05 + CLOSE / 2, 0), True),  # at the score threshold
        ((0, 0, 10, 10, 0.5, 0), False),
        ((100, 0, 110, 6.001, 0.5, 0), True),  # IoU with a better one of .6001
        ((100, 0, 110, 6.001, 0.5, 1), False),  # of another class
        ((100, 0, 110, 7, 0.5, 0), False),  # IoU .7: should have been suppressed
    ],
)
def test_who_may_be_missing(missing: tuple[float, float, float, float, float, int], excused: bool) -> None:
    rest = (100.0, 0.0, 110.0, 10.0, 0.9, 0)
    own = detections(rest, missing)
    assert is_excused(own, 1, detections(rest), RULES) == excused


def test_the_last_place_may_change_hands() -> None:
    few = PostProcessing(max_detections=1)
    own = detections((0, 0, 10, 10, 0.5, 0))
    assert is_excused(own, 0, detections((50, 0, 60, 10, 0.5004, 1)), few)
    assert not is_excused(own, 0, detections((50, 0, 60, 10, 0.4, 1)), few)
