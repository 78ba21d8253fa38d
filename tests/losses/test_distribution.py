from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays
from torch import Tensor

from conftest import Golden
from detdistill.losses.distribution import distribution_focal_loss, distribution_kl, expected_distance
from support.golden_losses import assert_matches

BINS = 7


def distributions(count: int = 3) -> st.SearchStrategy[Tensor]:
    """`(count, BINS)` float64 logits."""
    return numpy_arrays(np.float64, (count, BINS), elements=st.floats(-40, 40)).map(torch.from_numpy)


@pytest.mark.golden
class TestGolden:
    def test_distribution_focal_loss(self, golden: Golden) -> None:
        assert_matches(
            golden("losses_box"),
            "dfl",
            lambda logits, get: distribution_focal_loss(logits, get("dfl_target")),
            prediction="dfl_logits",
            weight="box_weight",
            loss_weight=0.25,
        )

    @pytest.mark.parametrize(("name", "temperature", "loss_weight"), [("ld_T10", 10.0, 0.25), ("ld_T1", 1.0, 1.0)])
    def test_distribution_kl(self, golden: Golden, name: str, temperature: float, loss_weight: float) -> None:
        assert_matches(
            golden("losses_box"),
            name,
            lambda logits, get: distribution_kl(logits, get("ld_teacher_logits"), temperature),
            prediction="dfl_logits",
            weight="box_weight",
            loss_weight=loss_weight,
        )

    def test_expected_distance(self, golden: Golden) -> None:
        arrays = golden("losses_box")
        logits, expected = torch.from_numpy(arrays["dfl_logits"]), torch.from_numpy(arrays["integral"])
        distances = expected_distance(logits[: expected.numel()].reshape(*expected.shape, -1))
        torch.testing.assert_close(distances, expected, rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    uniform = torch.zeros(17)
    assert distribution_focal_loss(uniform, torch.tensor(2.3)).item() == pytest.approx(math.log(17))
    assert expected_distance(uniform).item() == pytest.approx(8.0)
    teacher = torch.tensor([math.log(3), 0.0, 0.0, 0.0])
    assert distribution_kl(torch.zeros(4), teacher, 1.0).item() == pytest.approx(0.035960, abs=1e-6)
    assert distribution_kl(torch.zeros(4), teacher, 10.0).item() == pytest.approx(0.029312, abs=1e-6)


@given(distributions(), st.floats(-100, 100))
def test_expected_distance_is_a_mean_of_bins(logits: Tensor, shift: float) -> None:
    distances = expected_distance(logits)
    assert ((distances >= 0) & (distances <= BINS - 1 + 1e-9)).all()
    torch.testing.assert_close(expected_distance(logits + shift), distances)
    torch.testing.assert_close(expected_distance(logits.flip(-1)), BINS - 1 - distances)


@given(st.integers(0, BINS - 1))
def test_a_sure_distribution_is_its_bin(distance: int) -> None:
    logits = torch.full((BINS,), -1e4)
    logits[distance] = 0.0
    assert expected_distance(logits).item() == distance


@given(distributions(), st.lists(st.floats(0, BINS - 1, exclude_max=True), min_size=3, max_size=3))
def test_focal_loss_is_cross_entropy_with_the_two_bins_around(logits: Tensor, targets: list[float]) -> None:
    target = torch.tensor(targets, dtype=torch.float64)
    hats = (1 - (torch.arange(BINS) - target[:, None]).abs()).clamp(min=0)
    expected = F.cross_entropy(logits, hats, reduction="none")
    torch.testing.assert_close(distribution_focal_loss(logits, target), expected)


@given(st.floats(0, BINS - 1.001))
def test_focal_loss_is_least_where_the_expected_distance_is_the_target(target: float) -> None:
    hat = (1 - (torch.arange(BINS, dtype=torch.float64) - target).abs()).clamp(min=1e-12)
    logits = hat.log()
    assert expected_distance(logits).item() == pytest.approx(target, abs=1e-6)
    goal = torch.tensor(target, dtype=torch.float64)
    best = distribution_focal_loss(logits, goal)
    generator = torch.Generator().manual_seed(0)
    others = logits + torch.randn(20, BINS, generator=generator, dtype=torch.float64)
    assert (distribution_focal_loss(others, goal.expand(20)) >= best - 1e-9).all()


@given(distributions(), distributions(), st.floats(0.5, 20), st.floats(-100, 100))
def test_kl_is_a_divergence(student: Tensor, teacher: Tensor, temperature: float, shift: float) -> None:
    divergence = distribution_kl(student, teacher, temperature)
    assert (divergence >= -1e-9).all()
    torch.testing.assert_close(distribution_kl(student + shift, teacher, temperature), divergence)
    assert torch.equal(distribution_kl(teacher, teacher, temperature), torch.zeros(3, dtype=torch.float64))
    probabilities = (teacher / temperature).softmax(dim=-1)
    logs = (student / temperature).log_softmax(dim=-1)
    expected = (probabilities * (probabilities.log() - logs)).sum(dim=-1) * temperature**2 / BINS
    torch.testing.assert_close(divergence, expected)


def test_no_gradient_flows_into_the_teacher() -> None:
    student, teacher = torch.zeros(2, BINS, requires_grad=True), torch.rand(2, BINS, requires_grad=True)
    gradients = torch.autograd.grad(distribution_kl(student, teacher, 2.0).sum(), (student, teacher), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, BINS, generator=generator, dtype=torch.float64).requires_grad_()
    teacher = torch.randn(2, 3, BINS, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 3, generator=generator, dtype=torch.float64) * 5
    assert torch.autograd.gradcheck(expected_distance, (logits,))
    assert torch.autograd.gradcheck(lambda raw: distribution_focal_loss(raw, target), (logits,))
    assert torch.autograd.gradcheck(lambda raw: distribution_kl(raw, teacher, 3.0), (logits,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    student = (torch.randn(5, BINS, generator=generator) * 4).to(dtype)
    teacher = (torch.randn(5, BINS, generator=generator) * 4).to(dtype)
    target = torch.linspace(0, 5.9, 5)
    with torch.autocast("cpu", torch.bfloat16):
        values = (
            expected_distance(student),
            distribution_focal_loss(student, target),
            distribution_kl(student, teacher, 10.0),
        )
    expected = (
        expected_distance(student.float()),
        distribution_focal_loss(student.float(), target),
        distribution_kl(student.float(), teacher.float(), 10.0),
    )
    for value, widened in zip(values, expected, strict=True):
        assert value.dtype == torch.float32
        assert torch.equal(value, widened)


def test_extreme_and_no_logits() -> None:
    extreme = torch.tensor([[1e4, -1e4, 0.0], [-1e4, 1e4, 1e4]], requires_grad=True)
    total = (
        expected_distance(extreme).sum()
        + distribution_focal_loss(extreme, torch.tensor([1.5, 0.0])).sum()
        + distribution_kl(extreme, -extreme, 1.0).sum()
    )
    (gradient,) = torch.autograd.grad(total, extreme)
    assert total.isfinite()
    assert gradient.isfinite().all()
    empty = torch.zeros(0, 4, BINS)
    assert expected_distance(empty).shape == (0, 4)
    assert distribution_focal_loss(empty, torch.zeros(0, 4)).shape == (0, 4)
    assert distribution_kl(empty, empty, 10.0).shape == (0, 4)
