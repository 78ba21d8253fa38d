from __future__ import annotations

from dataclasses import replace
from typing import Literal

import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.structures import BACKGROUND, Assignment, Targets
from detdistill.detectors.dense.choices import HeadName
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.view import View
from detdistill.losses.rank import plackett_luce, rank_mimicking
from support.term_cases import grid, objects, one_image, output, outputs, shares

GRID = grid((2, 2))
NOTHING = torch.zeros(1, 1, 2, 2)
BOX = (0.0, 0.0, 16.0, 16.0)


def assignment(*matched: int) -> Assignment:
    return Assignment(torch.tensor([matched]))


def logits(*first_class: float) -> Tensor:
    """Of two classes; the second has the negative."""
    own = torch.tensor(first_class, dtype=torch.float32)
    return torch.stack((own, -own), dim=-1)[None]


def loss(term: RankMimicking, own: Tensor, other: Tensor, matched: Assignment, targets: Targets) -> dict[str, Tensor]:
    result: dict[str, Tensor] = term(
        View(output(GRID, [NOTHING], own), output(GRID, [NOTHING], other), matched, targets)
    )
    return result


def test_candidates_of_an_object_compete_in_its_class() -> None:
    """METHODS' third example: teacher (1, 0), student (0, 0)."""
    targets = Targets(torch.tensor([BOX]), torch.tensor([1]), torch.tensor([0]), torch.tensor([[16, 16]]))
    found = loss(RankMimicking(), logits(0, 7, 0, 7), logits(-1, 7, 0, 7), assignment(0, -1, 0, -2), targets)
    assert set(found) == {"classification"}
    assert found["classification"].item() == pytest.approx(0.110944, abs=1e-6)


def test_one_candidate_has_no_rank() -> None:
    own = logits(1, 2, 3, 4).requires_grad_()
    found = loss(RankMimicking(rank_by="both"), own, logits(4, 3, 2, 1), assignment(0, -1, -1, -1), objects([BOX]))
    assert [value.item() for value in found.values()] == [0, 0]
    torch.autograd.backward(sum(found.values(), torch.zeros(())))
    assert own.grad is not None
    assert not own.grad.any()


def test_space_and_temperature() -> None:
    own, other, matched = logits(1, -2, 0, 3), logits(0, 2, 1, -1), assignment(0, 0, 0, BACKGROUND)
    found = loss(RankMimicking(space="prob", temperature=0.5), own, other, matched, objects([BOX]))
    expected = rank_mimicking(
        own[0, :3, 0].sigmoid(), other[0, :3, 0].sigmoid(), torch.zeros(3, dtype=torch.int64), temperature=0.5
    )
    torch.testing.assert_close(found["classification"], expected)


def test_the_rank_of_the_boxes() -> None:
    """The IoUs of teacher's and student's boxes with the object, on the same softmax."""
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0, 0] = 0.5
    own, other = output(GRID, [NOTHING], logits(0, 0, 0, 0)), output(GRID, [NOTHING], logits(0, 0, 0, 0), deltas)
    parts = RankMimicking(rank_by="localization")(View(own, other, assignment(0, 0, -1, -1), objects([BOX])))
    # Priors of 16 x 16 at (0, 0) and (8, 0): IoU 1 and 1/3; the teacher's first is moved by 8: 1/3.
    expected = rank_mimicking(torch.tensor([1, 1 / 3]), torch.tensor([1 / 3, 1 / 3]), torch.tensor([0, 0]))
    assert set(parts) == {"localization"}
    torch.testing.assert_close(parts["localization"], expected)


def test_an_object_that_the_teacher_has_no_class_for_is_ranked_by_its_boxes_alone() -> None:
    boxes = torch.tensor([BOX, (8.0, 0.0, 24.0, 16.0)])
    targets = Targets(boxes, torch.tensor([BACKGROUND, 0]), torch.tensor([0, 0]), torch.tensor([[16, 16]]))
    known = Targets(boxes, torch.tensor([1, 0]), torch.tensor([0, 0]), torch.tensor([[16, 16]]))
    deltas = torch.linspace(-0.4, 0.4, 16).view(1, 4, 4)
    own, other = (
        output(GRID, [NOTHING], logits(1, 2, 3, 4)),
        output(GRID, [NOTHING], logits(4, -2, -3, 1), deltas),
    )
    matched = assignment(0, 0, 1, 1)
    term = RankMimicking(rank_by="both")
    found, of_known = term(View(own, other, matched, targets)), term(View(own, other, matched, known))
    alone = term(View(own, other, assignment(-1, -1, 1, 1), known))
    torch.testing.assert_close(found["classification"], alone["classification"])
    assert torch.equal(found["localization"], of_known["localization"])
    assert found["classification"] != of_known["classification"]


def test_the_score_that_detections_are_ranked_by() -> None:
    quality = torch.tensor([[1.0, -1.0, 2.0, 0.0]])
    own, other = (output(GRID, [NOTHING], logits(*row)) for row in ((0, 1, 2, 3), (1, 1, 1, 1)))
    ranked = other.with_predictions(replace(other.predictions, quality_logits=quality))
    term = RankMimicking(detector_score=True, space="prob")
    found = term(View(own, ranked, assignment(0, 0, 0, 0), objects([BOX])))["classification"]
    teacher = torch.tensor(1.0).sigmoid() * quality[0].sigmoid()
    expected = rank_mimicking(
        own.predictions.class_logits[0, :, 0].sigmoid(), teacher, torch.zeros(4, dtype=torch.int64)
    )
    torch.testing.assert_close(found, expected)


def test_a_temperature_of_zero() -> None:
    with pytest.raises(DetdistillError, match="temperature must be above 0, not 0"):
        RankMimicking(temperature=0)


def test_the_order_alone() -> None:
    own, other = logits(1, -2, 0, 3), logits(0, 2, 1, -1)
    matched, targets = assignment(0, 0, 0, BACKGROUND), objects([BOX])
    found = loss(RankMimicking(form="plackett_luce", temperature=0.5), own, other, matched, targets)
    expected = plackett_luce(2 * own[0, :3, 0], other[0, :3, 0], torch.zeros(3, dtype=torch.int64))
    torch.testing.assert_close(found["classification"], expected)
    order_kept = loss(RankMimicking(form="plackett_luce", temperature=0.5), own, other**3, matched, targets)
    assert torch.equal(found["classification"], order_kept["classification"])


def test_who_is_to_be_ranked_low() -> None:
    """Centres (8, 8) to (16, 16) lie in both boxes; the second object has its own positive and the two best of each."""
    targets = objects([(0.0, 0.0, 12.0, 12.0), (0.0, 0.0, 20.0, 20.0)])
    own, other = logits(3, 2, 1, 0).requires_grad_(), logits(1, 4, 0, 3)
    found = loss(RankMimicking(candidates="topk", k=2), own, other, assignment(-1, -2, 1, -1), targets)
    expected = rank_mimicking(
        own[0, [0, 0, 1, 2, 3], 0], other[0, [0, 0, 1, 2, 3], 0], torch.tensor([0, 1, 1, 1, 1]), temperature=1.0
    )
    torch.testing.assert_close(found["classification"], expected)
    torch.autograd.backward(found["classification"])
    assert own.grad is not None
    assert own.grad[0, 0, 0] > 0, "whom the teacher ranks lower than the student does"


def test_topk_of_the_boxes_is_by_their_overlap() -> None:
    """Priors of 16 x 16 at steps of 8: the first lies in the object as a whole; the teacher swaps it for its fourth."""
    deltas = torch.zeros(1, 4, 4)
    deltas[0, 0, :2], deltas[0, 3, :2] = 0.5, -0.5
    own, other = output(GRID, [NOTHING], logits(0, 0, 9, 9)), output(GRID, [NOTHING], logits(9, 9, 0, 0), deltas)
    targets = objects([(0.0, 0.0, 17.0, 17.0)])
    parts = RankMimicking(rank_by="localization", candidates="topk", k=1)(
        View(own, other, assignment(-1, 0, -1, -1), targets)
    )
    square = 256 / 289
    side, corner = 9 * 16 / (289 + 256 - 9 * 16), 81 / (289 + 256 - 81)
    expected = rank_mimicking(
        torch.tensor([square, side, corner]), torch.tensor([corner, side, square]), torch.tensor([0, 0, 0])
    )
    torch.testing.assert_close(parts["localization"], expected)


@pytest.mark.parametrize("form", ["kl", "plackett_luce"])
@pytest.mark.parametrize("head", ["retinanet", "fcos"])
def test_lists_of_topk_step_and_share(head: HeadName, form: Literal["kl", "plackett_luce"]) -> None:
    """Finite with and without objects and in bfloat16; the shares of two processes add up."""
    term = RankMimicking(form=form, candidates="topk", rank_by="both", detector_score=True)
    student, _, case = outputs(head, 2)
    together = term(View(*case))
    parts = shares(lambda image, reduce_sum: term(View(*one_image(case, student, image), reduce_sum)), 2)
    for key, value in together.items():
        assert value > 0
        torch.testing.assert_close(parts[0][key] + parts[1][key], value, rtol=1e-4, atol=1e-6)
    own, other, _, _ = case
    half = own.with_predictions(replace(own.predictions, logits=own.predictions.logits.bfloat16()))
    torch.testing.assert_close(
        term(View(half, *case[1:]))["classification"], together["classification"], rtol=0.05, atol=0
    )
    nothing = objects([], images=2)
    empty = term(View(own, other, student.match(own, nothing)[own.final], nothing))
    assert [value.item() for value in empty.values()] == [0, 0]
    assert all(value.requires_grad for value in empty.values())


def test_no_candidates_to_take() -> None:
    with pytest.raises(DetdistillError, match="k must be at least 1, not 0"):
        RankMimicking(candidates="topk", k=0)
