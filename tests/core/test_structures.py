from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.output import Candidates, Output, Predictions, TowerMaps, combined, joint_logit
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets, single_process
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


def test_targets_join_images_in_order() -> None:
    boxes = [torch.rand(2, 4), torch.zeros(0, 4), torch.rand(1, 4)]
    labels = [torch.tensor([3, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([2])]
    targets = Targets.from_images(boxes, labels, torch.tensor([[10, 10]] * 3))
    assert targets.num_images == 3
    assert targets.image.tolist() == [0, 0, 2]
    assert targets.labels.tolist() == [3, 1, 2]
    assert targets.ignored.shape == (0, 4)
    moved = targets.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_defaults_are_where_the_boxes_are() -> None:
    nothing = torch.zeros(0, dtype=torch.int64, device="meta")
    targets = Targets(torch.zeros(0, 4, device="meta"), nothing, nothing, torch.zeros(1, 2, device="meta"))
    assert {targets.ignored.device.type, targets.ignored_image.device.type} == {"meta"}


counts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)


@given(counts, st.data())
def test_a_range_of_images_is_the_batch_of_these_images(numbers: list[tuple[int, int]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start + 1, len(numbers))) if start < len(numbers) else start
    boxes, ignored = ([torch.rand(pair[kind], 4) for pair in numbers] for kind in (0, 1))
    labels = [torch.arange(count) for count, _ in numbers]
    sizes = torch.arange(2 * len(numbers)).reshape(-1, 2)
    whole = Targets.from_images(boxes, labels, sizes, ignored=ignored)
    assert whole.ignored_image.tolist() == [image for image, (_, count) in enumerate(numbers) for _ in range(count)]
    found = replace(whole, draws=Draws(1, 2, tuple(range(len(numbers))))).of_images(start, stop)
    assert found.draws == Draws(1, 2, tuple(range(start, stop)))
    assert whole.of_images(start, stop).draws is None
    if start == stop:
        assert found.num_images == len(found.boxes) == len(found.ignored) == 0
        return
    part = slice(start, stop)
    expected = Targets.from_images(boxes[part], labels[part], sizes[part], ignored=ignored[part])
    for name in ("boxes", "labels", "image", "sizes", "ignored", "ignored_image"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_assignment_names_positives_and_labels() -> None:
    targets = Targets(torch.rand(2, 4), torch.tensor([5, 0]), torch.tensor([0, 1]), torch.tensor([[8, 8], [8, 8]]))
    assignment = Assignment(torch.tensor([[BACKGROUND, 0, IGNORED], [1, BACKGROUND, 1]]))
    image, prior = assignment.positive
    assert image.tolist() == [0, 1, 1]
    assert prior.tolist() == [1, 0, 2]
    assert assignment.positive_targets.tolist() == [0, 1, 1]
    assert assignment.labels(targets).tolist() == [[BACKGROUND, 5, IGNORED], [0, BACKGROUND, 0]]


def test_assignment_without_objects_has_no_labels() -> None:
    nothing = Targets.from_images([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], torch.tensor([[8, 8]]))
    assignment = Assignment(torch.full((1, 3), BACKGROUND))
    assert assignment.labels(nothing).tolist() == [[BACKGROUND] * 3]
    assert len(assignment.positive_targets) == 0


def test_single_process_sums_nothing() -> None:
    value = torch.tensor([1.0, 2.0])
    assert single_process(value) is value
