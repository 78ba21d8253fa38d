from __future__ import annotations

import math
from collections.abc import Callable
from random import Random

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.losses.rank import plackett_luce, rank_mimicking, segment_log_softmax

RankLoss = Callable[..., Tensor]
BOTH_LOSSES = pytest.mark.parametrize("loss", [rank_mimicking, plackett_luce])


def per_object(
    of_one: Callable[[Tensor, Tensor], Tensor], student: Tensor, teacher: Tensor, instance: Tensor
) -> Tensor:
    """Mean over objects, one after the other."""
    losses = [of_one(student[instance == i], teacher[instance == i]) for i in sorted(set(instance.tolist()))]
    return torch.stack(losses).mean() if losses else student.sum()


def kl_of_one(student: Tensor, teacher: Tensor) -> Tensor:
    p, q = teacher.softmax(dim=0), student.softmax(dim=0)
    return (p * (p.log() - q.log())).sum()


def unlikelihood_of_one(student: Tensor, teacher: Tensor) -> Tensor:
    ranked = teacher.tolist()
    order = sorted(range(len(teacher)), key=lambda i: (-ranked[i], i))
    discounts = [1 / math.log2(2 + place) for place in range(len(order))]
    chosen = [
        discount * (student[order[place:]].logsumexp(dim=0) - student[order[place]])
        for place, discount in enumerate(discounts)
    ]
    return torch.stack(chosen).sum() / sum(discounts)


ORACLES: dict[RankLoss, Callable[[Tensor, Tensor], Tensor]] = {
    rank_mimicking: kl_of_one,
    plackett_luce: unlikelihood_of_one,
}


def scores(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


def objects(*ids: int) -> Tensor:
    return torch.tensor(ids, dtype=torch.int64)


@st.composite
def candidates(draw: st.DrawFn, size: float = 8.0) -> tuple[Tensor, Tensor, Tensor]:
    """Student, teacher, objects: up to 25 candidates of objects in any order, some of which have none."""
    count = draw(st.integers(0, 25))
    values = st.lists(st.floats(-size, size), min_size=count, max_size=count)
    instance = draw(st.lists(st.sampled_from([0, 2, 3, 17, 500]), min_size=count, max_size=count))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    student, teacher = (torch.tensor(draw(values), dtype=dtype) for _ in range(2))
    return student.requires_grad_(), teacher, objects(*instance)


class TestRankMimickingByHand:
    def test_reversed_probabilities(self) -> None:
        """Also a trap: were the two sorted independently, a reversed ranking would cost nothing."""
        student = scores(0.3, 0.6, 0.9)
        loss = rank_mimicking(student, scores(0.9, 0.6, 0.3), objects(4, 4, 4))
        assert loss.item() == pytest.approx(0.118234, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(gradient, scores(-0.197057, 0, 0.197057).detach(), rtol=0, atol=1e-6)

    def test_reversed_logits(self) -> None:
        student = scores(-2, 0, 2)
        loss = rank_mimicking(student, scores(2, 0, -2), objects(0, 0, 0))
        assert loss.item() == pytest.approx(3.403748, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(gradient, scores(-0.850937, 0, 0.850937).detach(), rtol=0, atol=2e-6)

    def test_direction_of_the_divergence(self) -> None:
        """The teacher leads: KL(student ‖ teacher) would be .120115."""
        student = scores(0, 0)
        loss = rank_mimicking(student, scores(1, 0), objects(1, 1))
        assert loss.item() == pytest.approx(0.110944, abs=1e-6)
        (gradient,) = torch.autograd.grad(loss, student)
        torch.testing.assert_close(gradient, scores(-0.231059, 0.231059).detach(), rtol=0, atol=1e-6)

    def test_one_candidate_has_no_rank(self) -> None:
        student = scores(-3)
        loss = rank_mimicking(student, scores(5), objects(2))
        assert loss.item() == 0
        assert torch.autograd.grad(loss, student)[0].item() == 0

    def test_an_object_of_one_candidate_counts(self) -> None:
        student = scores(0.3, 0.1, 0.6, 0.9)
        loss = rank_mimicking(student, scores(0.9, 0.8, 0.6, 0.3), objects(5, 3, 5, 5))
        assert loss.item() == pytest.approx(0.059117, abs=1e-6)

    def test_a_constant_changes_no_rank(self) -> None:
        teacher = scores(0.9, 0.6, 0.3)
        assert rank_mimicking(teacher + 5, teacher, objects(0, 0, 0)).item() == pytest.approx(0, abs=1e-12)

    def test_temperature(self) -> None:
        """T = 2 on doubled scores is T = 1 on the scores, times T²."""
        loss = rank_mimicking(scores(0, 0), scores(2, 0), objects(0, 0), temperature=2.0)
        assert loss.item() == pytest.approx(4 * 0.110944, abs=4e-6)


class TestPlackettLuceByHand:
    def test_even_scores(self) -> None:
        """Choosing the best of three and of two alike: ln 3 and ln 2, weighing 1 and 1 / log2(3); the last is free."""
        student = scores(0, 0, 0)
        loss = plackett_luce(student, scores(0.9, 0.3, 0.6), objects(7, 7, 7))
        weights = (1, 1 / math.log2(3), 1 / 2)
        assert loss.item() == pytest.approx((math.log(3) + weights[1] * math.log(2)) / sum(weights), abs=1e-12)
        (gradient,) = torch.autograd.grad(loss, student)
        expected = scores(1 / 3 - 1, 1 / 3 + weights[1] / 2, 1 / 3 - weights[1] / 2).detach() / sum(weights)
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)

    def test_the_top_counts_most(self) -> None:
        teacher = scores(4, 3, 2, 1)
        top_swapped = plackett_luce(scores(3, 4, 2, 1), teacher, objects(0, 0, 0, 0))
        bottom_swapped = plackett_luce(scores(4, 3, 1, 2), teacher, objects(0, 0, 0, 0))
        assert top_swapped > bottom_swapped

    def test_a_sure_student_of_the_same_order_loses_nothing(self) -> None:
        teacher, of_one = scores(0.3, 0.2, 0.1), objects(0, 0, 0)
        assert plackett_luce(100 * teacher.argsort().double(), teacher, of_one).item() == pytest.approx(0, abs=1e-12)
        assert plackett_luce(-100 * teacher.argsort().double(), teacher, of_one).item() > 50

    def test_one_candidate_has_no_order(self) -> None:
        student = scores(-3)
        loss = plackett_luce(student, scores(5), objects(2))
        assert loss.item() == 0
        assert torch.autograd.grad(loss, student)[0].item() == 0

    def test_equal_teacher_scores_keep_their_order(self) -> None:
        tied = plackett_luce(scores(0.1, 2, -1), scores(0.5, 0.5, 0.5), objects(0, 0, 0))
        ranked = plackett_luce(scores(0.1, 2, -1), scores(0.7, 0.6, 0.5), objects(0, 0, 0))
        assert tied.item() == ranked.item()


@BOTH_LOSSES
@given(drawn=candidates())
def test_equals_a_loop_over_objects(loss: RankLoss, drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    student, teacher, instance = drawn
    value, expected = loss(student, teacher, instance), per_object(ORACLES[loss], student, teacher, instance)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    gradient, expected_gradient = (torch.autograd.grad(total, student)[0] for total in (value, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


@BOTH_LOSSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_a_loop_over_many_objects(loss: RankLoss, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    instance = torch.randint(500, (8000,), generator=generator)
    student, teacher = (torch.randn(8000, generator=generator).to(dtype).requires_grad_() for _ in range(2))
    value, expected = loss(student, teacher, instance), per_object(ORACLES[loss], student, teacher, instance)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    gradient, expected_gradient = (torch.autograd.grad(total, student)[0] for total in (value, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-6, atol=1e-6)


@BOTH_LOSSES
@given(drawn=candidates(), random=st.randoms(use_true_random=False))
def test_candidates_have_no_order(loss: RankLoss, drawn: tuple[Tensor, Tensor, Tensor], random: Random) -> None:
    student, _, instance = drawn
    teacher = torch.tensor(random.sample(range(len(student)), len(student)), dtype=student.dtype)  # no ties
    order = objects(*random.sample(range(len(student)), len(student)))
    shuffled = loss(student[order], teacher[order], instance[order])
    torch.testing.assert_close(shuffled, loss(student, teacher, instance), rtol=1e-5, atol=1e-6)


@BOTH_LOSSES
@given(drawn=candidates(), shift=st.integers(-64, 64))
def test_each_object_has_its_own_zero(loss: RankLoss, drawn: tuple[Tensor, Tensor, Tensor], shift: int) -> None:
    student, teacher, instance = drawn
    student, teacher = student.detach().double(), teacher.double()
    shifts = (instance % 5 - 2) * float(shift)
    torch.testing.assert_close(
        loss(student + shifts, teacher, instance), loss(student, teacher, instance), rtol=1e-9, atol=1e-9
    )


@given(drawn=candidates())
def test_a_student_that_equals_its_teacher_loses_nothing(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    _, teacher, instance = drawn
    student = teacher.clone().requires_grad_()
    loss = rank_mimicking(student, teacher, instance)
    assert loss.item() == 0
    torch.testing.assert_close(torch.autograd.grad(loss, student)[0], torch.zeros_like(student), rtol=0, atol=1e-6)


@given(drawn=candidates(), temperature=st.floats(0.25, 8))
def test_gradients_of_an_object_add_up_to_zero(drawn: tuple[Tensor, Tensor, Tensor], temperature: float) -> None:
    student, teacher, instance = drawn
    loss = rank_mimicking(student, teacher, instance, temperature=temperature)
    (gradient,) = torch.autograd.grad(loss, student)
    for i in set(instance.tolist()):
        assert gradient[instance == i].sum().item() == pytest.approx(0, abs=1e-5)


@BOTH_LOSSES
@given(drawn=candidates())
def test_the_shares_of_two_processes_add_up(loss: RankLoss, drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    """An object is in one image, an image in one process; a process may have none."""
    student, teacher, instance = drawn
    here = instance < 3
    counts = [len(set(instance[part].tolist())) for part in (here, ~here)]

    def all_reduce(own: Tensor) -> Tensor:
        assert own.item() in counts
        return own.new_tensor(sum(counts))

    shares = [loss(student[part], teacher[part], instance[part], reduce_sum=all_reduce) for part in (here, ~here)]
    torch.testing.assert_close(sum(shares), loss(student, teacher, instance), rtol=1e-5, atol=1e-6)


@BOTH_LOSSES
def test_without_candidates_the_loss_is_zero_and_connected(loss: RankLoss) -> None:
    logits = torch.randn(4, requires_grad=True)
    value = loss(logits[:0], torch.zeros(0), objects())
    assert value.item() == 0
    assert torch.equal(torch.autograd.grad(value, logits)[0], torch.zeros(4))


@BOTH_LOSSES
def test_no_gradient_flows_into_the_teacher(loss: RankLoss) -> None:
    student, teacher = scores(1, 2, 3), scores(3, 1, 2)
    value = loss(student, teacher, objects(0, 0, 1))
    gradients = torch.autograd.grad(value, (student, teacher), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


@BOTH_LOSSES
def test_gradients_are_those_of_finite_differences(loss: RankLoss) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(9, generator=generator, dtype=torch.float64) for _ in range(2))
    instance = objects(3, 0, 3, 3, 8, 0, 0, 3, 0)
    assert torch.autograd.gradcheck(lambda raw: loss(raw, teacher, instance), (student.requires_grad_(),))


@BOTH_LOSSES
def test_extreme_logits(loss: RankLoss) -> None:
    student = torch.tensor([1e4, -1e4, 0.0, -1e4, -1e4, 1e4], requires_grad=True)
    teacher = torch.tensor([-1e4, 1e4, 0.0, -1e4, 1e4, -1e4])
    value = loss(student, teacher, objects(0, 0, 0, 1, 1, 2))
    (gradient,) = torch.autograd.grad(value, student)
    assert value.isfinite()
    assert value > 1e3
    assert gradient.isfinite().all()
    assert gradient[1] < 0 < gradient[0]


@BOTH_LOSSES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(loss: RankLoss, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = ((torch.randn(60, generator=generator) * 8).to(dtype) for _ in range(2))
    instance = torch.randint(7, (60,), generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher, instance)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float(), instance))


@BOTH_LOSSES
def test_misfits_are_named(loss: RankLoss) -> None:
    with pytest.raises(DetdistillError, match=r"student \(3,\), teacher \(2,\), instance \(3,\).*same candidates"):
        loss(torch.zeros(3), torch.zeros(2), objects(0, 0, 1))
    with pytest.raises(DetdistillError, match=r"student \(2, 2\)"):
        loss(torch.zeros(2, 2), torch.zeros(2, 2), torch.zeros(2, 2, dtype=torch.int64))
    with pytest.raises(DetdistillError, match=r"instance: -2 is no object.*Assignment\.positive"):
        loss(torch.zeros(3), torch.zeros(3), objects(0, -1, -2))


@given(drawn=candidates(size=200.0))
def test_segment_log_softmax_is_the_softmax_of_each_segment(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    values, _, instance = drawn
    segment = instance % 17  # four at most hold anything
    log_probabilities = segment_log_softmax(values, segment, 17)
    assert (log_probabilities <= 0).all()
    for i in range(17):
        chosen = segment == i
        expected = F.log_softmax(values[chosen], dim=0)
        torch.testing.assert_close(log_probabilities[chosen], expected, rtol=1e-5, atol=1e-5)


@BOTH_LOSSES
@pytest.mark.filterwarnings("ignore:Anomaly Detection has been enabled")
def test_objects_without_candidates_bring_no_nan_into_the_backward_pass(loss: RankLoss) -> None:
    student = scores(1, 2)
    with torch.autograd.detect_anomaly():
        torch.autograd.grad(loss(student, scores(2, 1), objects(3, 3)), student)
