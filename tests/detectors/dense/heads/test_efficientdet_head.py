from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.output import Candidates, Predictions
from detdistill.core.structures import IGNORED, Assignment, Targets, single_process
from detdistill.detectors.dense.heads.efficientdet_head import EfficientDetHead
from detdistill.detectors.postprocess import PostProcessing

STRIDES = (8, 16, 32, 64, 128)
CELLS = 64 + 16 + 4 + 1 + 1  # of a canvas of 64 x 64


def head_of(**options: Any) -> EfficientDetHead:
    torch.manual_seed(0)
    return EfficientDetHead(8, 2, STRIDES, **options)


def features() -> list[Tensor]:
    return [torch.randn(1, 8, side, side) for side in (8, 4, 2, 1, 1)]


def predictions_of(head: EfficientDetHead, logits: Tensor, deltas: Tensor) -> Predictions:
    return Predictions(Candidates(head.grid(features())), logits, deltas, head.coder)


def one_object(box: Tensor) -> Targets:
    return Targets.from_images([box[None]], [torch.tensor([1])], torch.tensor([[64, 64]]))


def test_candidates_start_as_background() -> None:
    head = head_of()
    output = head(features())
    assert output.predictions.logits.shape == (1, 9 * CELLS, 2)
    assert float(output.predictions.scores().mean()) == pytest.approx(0.01, abs=0.005)
    expected = PostProcessing(0.0, 0.5, 5000, 100, candidates_per_image=5000)
    assert head.postprocessing == expected


# Huber at δ 0.1: .00125 of 0.05 and .025 of 0.3, published in effdet's own form.
@pytest.mark.parametrize(("error", "huber"), [(0.05, 0.00125), (0.3, 0.025)])
def test_the_box_loss_by_hand(error: float, huber: float) -> None:
    head = head_of()
    grid = head.grid(features())
    prior = grid.priors[100]
    shift, stretch = torch.tensor([2.0, 3.0, 2.0, 3.0]), torch.tensor([-1.0, -2.0, 1.0, 2.0])
    targets = one_object(prior + shift + stretch)
    matched = torch.full((1, grid.num_priors), -1)
    matched[0, 100] = 0
    goal = head.coder.encode(prior, grid.prior_strides[100], targets.boxes[0])
    deltas = torch.zeros(1, grid.num_priors, 4)
    deltas[0, 100] = goal + torch.tensor([error, -error, 0, 0])
    predictions = predictions_of(head, torch.zeros(1, grid.num_priors, 2), deltas)
    terms = head.loss(predictions, targets, Assignment(matched), single_process)
    # 50 times the sum over four times the positives plus 1.
    assert float(terms["box"]) == pytest.approx(50 * 2 * huber / (4 * 2), rel=1e-4)
    focal = (0.0612661 + 0.1837984 * (2 * grid.num_priors - 1)) / 2
    assert float(terms["classification"]) == pytest.approx(focal, rel=1e-5)


def test_a_target_of_exactly_0_does_not_count() -> None:
    head = head_of()
    grid = head.grid(features())
    prior = grid.priors[100]
    targets = one_object(prior + torch.tensor([4.0, 0.0, 4.0, 0.0]))  # only dx is not 0
    matched = torch.full((1, grid.num_priors), -1)
    matched[0, 100] = 0
    deltas = torch.ones(1, grid.num_priors, 4, requires_grad=True)
    predictions = predictions_of(head, torch.zeros(1, grid.num_priors, 2), deltas)
    terms = head.loss(predictions, targets, Assignment(matched), single_process)
    (gradient,) = torch.autograd.grad(terms["box"], deltas)
    assert gradient.nonzero().tolist() == [[0, 100, 0]]


def test_without_positives_and_with_everything_ignored() -> None:
    head = head_of()
    grid = head.grid(features())
    nothing = Targets.from_images([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], torch.tensor([[64, 64]]))
    predictions = predictions_of(head, torch.zeros(1, grid.num_priors, 2), torch.zeros(1, grid.num_priors, 4))
    terms = head.loss(predictions, nothing, head.assign(grid, nothing), single_process)
    assert float(terms["classification"]) == pytest.approx(0.1837984 * 2 * grid.num_priors, rel=1e-5)
    assert float(terms["box"]) == 0
    ignored = Assignment(torch.full((1, grid.num_priors), IGNORED))
    assert float(head.loss(predictions, nothing, ignored, single_process)["classification"]) == 0


@pytest.mark.parametrize(
    ("options", "changed"), [({"box_weight": 25.0}, "box"), ({"gamma": 2.0}, "classification"), ({"delta": 0.2}, "box")]
)
def test_options_change_their_own_term(options: dict[str, float], changed: str) -> None:
    torch.manual_seed(3)
    logits, deltas = torch.randn(1, 9 * CELLS, 2), torch.randn(1, 9 * CELLS, 4)
    targets = one_object(torch.tensor([5.0, 9.0, 41.0, 50.0]))
    losses: list[dict[str, Any]] = []
    for head in (head_of(), head_of(**options)):
        predictions = predictions_of(head, logits, deltas)
        losses.append(head.loss(predictions, targets, head.assign(predictions.grid, targets), single_process))
    differing = {name for name in losses[0] if float(losses[0][name]) != float(losses[1][name])}
    assert differing == {changed}


def test_large_deltas_are_decoded_as_they_are() -> None:
    head = head_of()
    grid = head.grid(features())
    prior = grid.priors[0].double()
    box = head.coder.decode(prior, grid.prior_strides[0], torch.tensor([0.0, 0.0, 5.0, 5.0], dtype=torch.float64))
    # RetinaNet's limit is a factor of 62.5.
    torch.testing.assert_close(box[2:] - box[:2], (prior[2:] - prior[:2]) * 148.4131591)
    everything = head.coder.decode(prior.float(), grid.prior_strides[0], torch.full((4,), 1e4))
    assert everything.isfinite().all()
