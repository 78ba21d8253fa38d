"""Terms that compare with a teacher's opinions of the student's boxes, by hand."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import TeacherBoxes
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.binary_classification import BinaryClassification
from detdistill.distill.terms.bounded_regression import BoundedRegression
from detdistill.distill.terms.chen import Chen
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel
from support.by_opinion import FIRST, LAST, predicted, view_of
from support.term_cases import objects

FAR = (40.0, 40.0, 60.0, 60.0)


def parts(term: Term, logits: Tensor, found: TeacherBoxes, matched: tuple[int, ...], goals: Any) -> dict[str, Tensor]:
    (need,) = term.needs
    result: dict[str, Tensor] = term(view_of(logits, found, matched, objects(goals), need=need))
    return result


def kl_to_uniform(*weights: float) -> float:
    shares = [weight / sum(weights) for weight in weights]
    return sum(share * math.log(share * len(shares)) for share in shares)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # Opinions .9, .1 and .9 / 49: with one box of the teacher its score cancels, q is IoU^(sharpness / T).
        ({}, kl_to_uniform(1, 1 / 9, 1 / 49)),
        ({"temperature": 2.0}, 4 * kl_to_uniform(1, 1 / 3, 1 / 7)),
        ({"sharpness": 4.0}, kl_to_uniform(0.9, 0.9 / 81, 0.9 / 7**4)),
        ({"sharpness": 4.0, "temperature": 4.0}, 16 * kl_to_uniform(1, 1 / 3, 1 / 7)),
    ],
)
def test_rank_mimicking_by_hand(options: dict[str, float], expected: float) -> None:
    term = RankMimicking(source="opinion", **options)  # type: ignore[arg-type]
    logits = torch.zeros(1, 4, 2, requires_grad=True)
    loss = parts(term, logits, predicted((FIRST, 0, 0.9)), (0, 0, -1, 0), [FIRST])["classification"]
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    torch.autograd.backward(loss)
    assert logits.grad is not None
    assert logits.grad[0, 0, 0] < 0 < logits.grad[0, 3, 0], "the box that overlaps more is ranked higher"
    assert not logits.grad[..., 1].any()


def test_a_vanishing_opinion_counts_as_one_of_a_ten_thousandth() -> None:
    loss = parts(
        RankMimicking(source="opinion"), torch.zeros(1, 4, 2), predicted((FIRST, 0, 0.001)), (0, 0, -1, 0), [FIRST]
    )["classification"]
    assert loss.item() == pytest.approx(kl_to_uniform(0.001, 0.001 / 9, 1e-4), rel=1e-5)


@pytest.mark.parametrize(("object_weight", "weights"), [("opinion", (0.9, 0.5)), ("equal", (1, 1))])
def test_objects_count_as_the_teacher_is_sure_of_them(object_weight: Any, weights: tuple[float, float]) -> None:
    """The first object's candidates are opined .9 and .1; the second's, of another box, 1/9 and 1 of .5."""
    found = predicted((FIRST, 0, 0.9), (LAST, 0, 0.5))
    term = RankMimicking(source="opinion", object_weight=object_weight)
    loss = parts(term, torch.zeros(1, 4, 2), found, (0, 0, 1, 1), [FIRST, LAST])["classification"]
    own = kl_to_uniform(0.9, max(0.1, 0.5 / 9)), kl_to_uniform(max(0.1, 0.5 / 9), 0.5)
    expected = sum(weight * each for weight, each in zip(weights, own, strict=True)) / sum(weights)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_an_object_that_the_teacher_missed_does_not_teach_equality() -> None:
    logits = torch.tensor([3.0, -2.0, 1.0, 0.0]).view(1, 4, 1).expand(-1, -1, 2).clone().requires_grad_()
    loss = parts(RankMimicking(source="opinion"), logits, predicted((FAR, 0, 0.9)), (0, 0, 0, 0), [FIRST])
    assert loss["classification"].item() == 0
    torch.autograd.backward(loss["classification"])
    assert logits.grad is not None
    assert not logits.grad.any()


def test_rankings_of_boxes_exclude_other_ways_to_rank() -> None:
    for options in ({"rank_by": "both"}, {"candidates": "topk"}):
        with pytest.raises(DetdistillError, match="source opinion ranks the positives"):
            RankMimicking(source="opinion", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("where", "expected"),
    [("positive", [(0, 0.9, 0.0), (1, 0.1, 0.0)]), ("all", [(0, 0.9, 0.0), (1, 0.1, 0.0), (3, 0.9 / 49, 0.0)])],
)
def test_soft_labels_by_hand(where: Any, expected: list[tuple[int, float, float]]) -> None:
    """Binary cross entropy with the opinion less its entropy, both classes, over the two positives; one is ignored."""
    logits = torch.tensor([[1.0, -1.0], [0.5, 0.0], [2.0, 2.0], [-1.0, 0.3]])[None]
    loss = parts(SoftLabel(source="opinion", where=where), logits, predicted((FIRST, 0, 0.9)), (0, 0, -2, -1), [FIRST])
    total = 0.0
    for prior, *opinion in expected:
        goal = torch.tensor(opinion).clamp(1e-6, 1 - 1e-6)
        entropy = F.binary_cross_entropy(goal, goal, reduction="sum")
        total += float(F.binary_cross_entropy_with_logits(logits[0, prior], goal, reduction="sum") - entropy)
    assert loss["classification"].item() == pytest.approx(total / 2, rel=1e-4)


def test_bounded_regression_by_hand() -> None:
    """The teacher's box is the first prior's; the object is nearly it. Of two candidates, one is the same box: no loss.

    The other, IoU 1/3 with the teacher's box, is no match below 1/2. A third object's box fits the student better.
    """
    near = (0.0, 0.0, 16.0, 14.0)
    found = predicted(((0.0, 0.0, 16.0, 15.0), 0, 0.9))
    logits = torch.zeros(1, 4, 2)
    # Student FIRST: IoU with the object 14 / 16; the teacher's box: 14 / 15.
    loss = parts(BoundedRegression(source="opinion"), logits, found, (0, 0, -1, -1), [near])
    assert loss["box"].item() == pytest.approx((1 - 15 / 16) / 2)
    assert parts(BoundedRegression(source="opinion", margin=0.1), logits, found, (0, 0, -1, -1), [near])["box"] == 0
    assert parts(BoundedRegression(source="opinion"), logits, found, (0, -1, -1, -1), [FIRST])["box"] == 0


def test_chen_has_no_hint_by_opinion() -> None:
    loss = parts(Chen(source="opinion"), torch.zeros(1, 4, 2), predicted((FIRST, 0, 0.9)), (0, 0, -1, -1), [FIRST])
    assert set(loss) == {"classification", "regression"}
    assert all(value.isfinite() for value in loss.values())
    cross_entropy = -sum(p * math.log(0.5) + 1.5 * (1 - p) * math.log(0.5) for p in (0.9, 1e-6, 0.1, 1e-6))
    assert loss["classification"].item() == pytest.approx(cross_entropy / 2, rel=1e-4)


def test_binary_classification_compares_boxes_where_the_teacher_has_one() -> None:
    """One box: the first candidate's own. All others are below an IoU of 1/2, so that no box loss is left."""
    loss = parts(
        BinaryClassification(source="opinion"),
        torch.zeros(1, 4, 2),
        predicted((FIRST, 0, 0.9)),
        (0, -1, -1, -1),
        [FIRST],
    )
    assert loss["box"].item() == pytest.approx(0, abs=1e-6)
    opinions = (0.9, 0.1, 0.1, 0.9 / 49)
    expected = sum(math.log(2) * abs(p - 0.5) for p in opinions) + 4 * math.log(2) * 0.5
    assert loss["classification"].item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["rank_mimicking", "soft_label", "binary_classification", "chen"])
def test_sharpness_is_above_0(name: str) -> None:
    with pytest.raises(DetdistillError, match="sharpness must be above 0, not 0"):
        TERMS[name](sharpness=0.0)
