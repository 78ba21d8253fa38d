from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.output import Candidates, Features, Output, Predictions, TowerMaps, combined, joint_logit
from support.grids import make_grid


@given(st.floats(-12, 12), st.floats(-12, 12))
def test_joint_logit_is_the_logit_of_the_product(first: float, second: float) -> None:
    a, b = torch.tensor(first, dtype=torch.float64), torch.tensor(second, dtype=torch.float64)
    torch.testing.assert_close(joint_logit(a, b).sigmoid(), a.sigmoid() * b.sigmoid(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("value", [-1e4, -100.0, 100.0, 1e4])
def test_joint_logit_stays_finite(value: float) -> None:
    a = torch.tensor(value, requires_grad=True)
    joint = joint_logit(a, a)
    torch.autograd.backward(joint)
    assert joint.isfinite()
    assert a.grad is not None
    assert a.grad.isfinite()


class UnitCoder:
    """Boxes are the priors moved by the regression."""

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        return priors + regression * strides[..., None]


@pytest.mark.parametrize("with_quality", [False, True])
def test_chosen_candidates_equal_all(with_quality: bool) -> None:
    grid = make_grid([(2, 3), (1, 2)], 2)
    shape = (2, grid.num_priors)
    quality = torch.randn(shape) if with_quality else None
    output = Output.dense(
        (), Predictions(Candidates(grid), torch.randn(*shape, 3), torch.randn(*shape, 4), UnitCoder(), quality)
    )
    image, prior, label = torch.tensor([0, 1, 1]), torch.tensor([0, 7, 15]), torch.tensor([2, 0, 1])
    torch.testing.assert_close(
        output.predictions.scores((image, prior, label)), output.predictions.scores()[image, prior, label]
    )
    torch.testing.assert_close(output.predictions.boxes((image, prior)), output.predictions.boxes()[image, prior])
    torch.testing.assert_close(output.predictions.log_odds().sigmoid(), output.predictions.scores())


def test_half_precision_outputs_score_in_float32() -> None:
    grid = make_grid([(1, 1)], 1)
    logits = torch.zeros(1, 1, 2, dtype=torch.bfloat16)
    output = Output.dense(
        (), Predictions(Candidates(grid), logits, torch.zeros(1, 1, 4, dtype=torch.bfloat16), UnitCoder())
    )
    assert (
        output.predictions.scores().dtype
        == output.predictions.log_odds().dtype
        == output.predictions.boxes().dtype
        == torch.float32
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class PredictionsOfMore(Predictions):
    more: Tensor


def part(tensors: list[Tensor], number: int) -> Tensor:
    return tensors[0][number : number + 1]


def test_an_output_in_parts_is_put_together_again() -> None:
    grid = make_grid([(2, 3), (1, 2)], 2)
    maps = (torch.randn(3, 4, 2, 3), torch.randn(3, 4, 1, 2))
    logits, regression = torch.randn(3, grid.num_priors, 2), torch.randn(3, grid.num_priors, 4)
    inner = Predictions(Candidates(grid), logits, regression, UnitCoder())
    towers = TowerMaps((maps[0] + 1, maps[1]), (maps[0] + 2, maps[1]), inner)
    more = PredictionsOfMore(Candidates(grid), logits, regression, UnitCoder(), more=torch.randn(3, 1))
    output = Output.dense(maps, more, towers)
    parts = [combined([output], partial(part, number=n)) for n in range(3)]
    whole = combined(parts, torch.cat)
    found = whole.predictions
    assert isinstance(found, PredictionsOfMore)
    assert isinstance(parts[1].predictions, PredictionsOfMore)
    assert parts[1].predictions.more.shape == (1, 1)
    assert found.grid is grid
    assert found.coder is more.coder
    assert found.quality_logits is None
    assert whole.towers is not None
    for one, other in (
        (found.more, more.more),
        (found.class_logits, logits),
        (whole.features.maps[1], maps[1]),
        (whole.towers.box_maps[0], towers.box_maps[0]),
        (whole.towers.predictions.regression, regression),
    ):
        assert torch.equal(one, other)


def softmax_of(logits: Tensor, quality: Tensor | None = None, valid: Tensor | None = None) -> Predictions:
    """Predictions of a softmax with background, for each image's own boxes."""
    boxes = torch.tensor([0.0, 0.0, 4.0, 4.0]).expand(*logits.shape[:2], 4)
    candidates = Candidates(own=boxes, valid=valid)
    return Predictions(candidates, logits, torch.zeros_like(boxes), UnitCoder(), quality, activation="softmax")


def test_softmax_by_hand() -> None:
    """Of logits log 1, log 2 and log 5 for two classes and background: 1/8 and 2/8."""
    found = softmax_of(torch.tensor([[[1.0, 2.0, 5.0]]]).log())
    assert found.num_classes == 2
    torch.testing.assert_close(found.scores(), torch.tensor([[[0.125, 0.25]]]))
    torch.testing.assert_close(found.class_logits.exp(), torch.tensor([[[1 / 7, 2 / 6]]]))


@given(arrays(np.float64, (2, 3, 4), elements=st.floats(-300, 300)), st.booleans())
def test_log_odds_of_a_softmax_are_those_of_its_scores(values: NDArray[np.float64], with_quality: bool) -> None:
    logits = torch.from_numpy(values).requires_grad_()
    quality = torch.linspace(-3, 3, 6, dtype=torch.float64).view(2, 3) if with_quality else None
    found = softmax_of(logits, quality)
    torch.testing.assert_close(found.log_odds().sigmoid(), found.scores(), rtol=1e-9, atol=1e-300)
    index = torch.tensor([0, 1, 1]), torch.tensor([2, 0, 1]), torch.tensor([0, 2, 1])
    torch.testing.assert_close(found.log_odds(index), found.log_odds()[index])
    torch.testing.assert_close(found.scores(index), found.scores()[index])
    torch.autograd.backward(found.log_odds().sum())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_the_log_odds_of_a_sure_class_are_not_lost() -> None:
    """1 - p is 2e-44 and more: far below what p itself can show."""
    (odds, other), *_ = softmax_of(torch.tensor([[[100.0, 0.0, 0.0]]])).class_logits[0]
    assert odds.item() == pytest.approx(100 - math.log(2), abs=1e-4)
    assert other.item() == pytest.approx(-100, abs=1e-4)


def test_candidates_that_do_not_exist_have_no_score() -> None:
    valid = torch.tensor([[True, False], [True, True]])
    found = softmax_of(torch.zeros(2, 2, 3), valid=valid)
    assert (found.scores()[0, 1] == 0).all()
    assert (found.scores()[valid] > 0).all()
    assert found.log_odds()[0, 1].sigmoid().sum() == 0
    index = torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([1, 1])
    torch.testing.assert_close(found.scores(index), found.scores()[index])
    torch.testing.assert_close(found.log_odds(index), found.log_odds()[index])


def test_each_image_may_have_its_own_candidates() -> None:
    own = torch.arange(16.0).view(2, 2, 4)
    found = Predictions(Candidates(own=own), torch.zeros(2, 2, 1), torch.ones(2, 2, 4), UnitCoder())
    assert torch.equal(found.boxes(), own + 1)
    index = torch.tensor([1, 0]), torch.tensor([0, 1])
    assert torch.equal(found.boxes(index), own[index] + 1)
    assert torch.equal(found.priors(index), own[index])
    with pytest.raises(ValueError, match="no grid"):
        _ = found.grid


@pytest.mark.parametrize("both", [True, False])
def test_candidates_have_one_source_of_boxes(both: bool) -> None:
    grid = make_grid([(1, 1)], 1)
    with pytest.raises(ValueError, match="give one of the two"):
        Candidates(grid, grid.priors[None]) if both else Candidates()


def test_stages_are_put_together_by_name() -> None:
    grid = make_grid([(1, 2)], 1)
    dense = Predictions(Candidates(grid), torch.zeros(1, 2, 1), torch.zeros(1, 2, 4), UnitCoder())
    output = Output(
        Features((torch.zeros(1, 1, 1, 2),), grid.strides),
        {"rpn": dense, "roi": softmax_of(torch.ones(1, 3, 3))},
        "roi",
    )
    whole = combined([output, output], torch.cat)
    assert whole.final == "roi"
    assert whole.predictions.logits.shape == (2, 3, 3)
    assert whole.predictions.candidates.boxes.shape == (2, 3, 4)
    assert whole.stages["rpn"].logits.shape == (2, 2, 1)
    assert whole.stages["rpn"].grid is grid
