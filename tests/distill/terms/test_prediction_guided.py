from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.structures import Assignment, Targets
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.view import View
from support.term_cases import Case, bound, grid, objects, output

GRID = grid((1, 2))
TARGETS = objects([], side=16)
MATCHED = Assignment(torch.full((1, 2), -1))


def example(*, logits: bool) -> Case:
    """METHODS' hand example: two cells, two classes, two channels; predictions as logits, or probabilities."""
    teacher = torch.tensor([[[0.8, 0.2], [0.1, 0.3]]])
    student = torch.tensor([[[0.4, 0.2], [0.1, 0.1]]])
    if not logits:
        teacher, student = teacher.logit(), student.logit()
    features = torch.tensor([[1.0, 5.0], [2.0, 5.0]]).view(1, 2, 1, 2)
    own = output(GRID, [torch.zeros(1, 2, 1, 2, requires_grad=True)], student.requires_grad_())
    return own, output(GRID, [features], teacher), MATCHED, TARGETS


@pytest.mark.parametrize("space", ["prob", "logit"])
@pytest.mark.parametrize(("form", "expected"), [("product", 0.35), ("l2norm", 0.269258), ("square", 0.145)])
def test_the_hand_example(form: Any, space: Any, expected: float) -> None:
    term = PredictionGuided(form=form, space=space)
    case = example(logits=space == "logit")
    bound(term, case[0], case[1])
    found = term(View(*case))
    assert set(found) == {"features"}
    assert found["features"].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("detach", [False, True])
def test_the_gradient_of_predictions_can_be_stopped(detach: bool) -> None:
    case = example(logits=False)
    term = PredictionGuided(detach_prediction=detach)
    bound(term, case[0], case[1])
    features, logits = torch.autograd.grad(
        term(View(*case))["features"], (case[0].features.maps[0], case[0].predictions.class_logits), allow_unused=True
    )
    torch.testing.assert_close(features[0, :, 0].T, torch.tensor([[-0.04, -0.08], [-0.05, -0.05]]))
    assert (logits is None) == detach


def test_padding_does_not_count() -> None:
    own, other, matched, _ = example(logits=False)
    term = PredictionGuided()
    bound(term, own, other)
    narrow = Targets(TARGETS.boxes, TARGETS.labels, TARGETS.image, torch.tensor([[8, 8]]))
    assert term(View(own, other, matched, narrow))["features"].item() == pytest.approx(0.2, abs=1e-6)


def test_predictions_of_all_anchors_are_averaged() -> None:
    layout = grid((1, 1), anchors=((0, 0, 16, 16), (0, 0, 8, 8)))
    feature = torch.ones(1, 1, 1, 1)
    own = output(layout, [0 * feature], torch.zeros(1, 2, 1))
    other = output(layout, [feature], torch.tensor([[[1.0], [3.0]]]))
    term = PredictionGuided(space="logit")
    bound(term, own, other)
    found: dict[str, Tensor] = term(View(own, other, Assignment(torch.full((1, 2), -1)), objects([], side=8)))
    assert found["features"].item() == pytest.approx((1 + 9) / 2)


@pytest.mark.parametrize("adapter", ["auto", "always"])
def test_an_adapter_may_be_forced(adapter: Any) -> None:
    case = example(logits=False)
    term = bound(PredictionGuided(adapter=adapter), case[0], case[1])
    assert len(list(term.parameters())) == (2 if adapter == "always" else 0)
