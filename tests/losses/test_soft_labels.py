from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays
from torch import Tensor

from conftest import Golden
from detdistill.losses.distribution import distribution_kl
from detdistill.losses.soft_labels import (
    binary_kl,
    modulated_binary_cross_entropy,
    softmax_kl,
    weighted_binary_cross_entropy,
)
from support.golden_losses import Arrays, as_tensor

BOTH_PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


@pytest.mark.golden
class TestGolden:
    @pytest.fixture
    def arrays(self, golden: Golden) -> Arrays:
        return golden("losses_kd")

    @BOTH_PRECISIONS
    @pytest.mark.parametrize("beta", [1.0, 2.0])
    def test_modulated_binary_cross_entropy(self, arrays: Arrays, dtype: torch.dtype, beta: float) -> None:
        name = f"kdqfl_beta{beta:.0f}"
        student = as_tensor(arrays["student_logits"], dtype).requires_grad_()
        teacher, weight = (as_tensor(arrays[key], dtype) for key in ("teacher_logits", "weight"))
        loss = modulated_binary_cross_entropy(student, teacher, beta)
        total = (loss * weight[:, None]).sum() / float(arrays["avg_factor"])
        (gradient,) = torch.autograd.grad(total, student)
        np.testing.assert_allclose(loss.detach().numpy(), arrays[f"{name}_elementwise"], rtol=1e-5, atol=1e-6)
        assert total.item() == pytest.approx(float(arrays[name]), rel=1e-5, abs=1e-6)
        expected = arrays[f"{name}_grad"]
        assert np.abs(gradient.numpy() - expected).max() / np.abs(expected).max() < 2e-5

    @BOTH_PRECISIONS
    @pytest.mark.parametrize(("reduction", "divergence"), [("mean", distribution_kl), ("sum", softmax_kl)])
    def test_softmax_kl(
        self,
        arrays: Arrays,
        dtype: torch.dtype,
        reduction: str,
        divergence: Callable[[Tensor, Tensor, float], Tensor],
    ) -> None:
        name = f"kldiv_T2_class{reduction}"
        student, teacher, weight = (
            as_tensor(arrays[key], dtype) for key in ("student_logits", "teacher_logits", "weight")
        )
        loss = divergence(student, teacher, 2.0)
        total = (loss * weight).sum() / float(arrays["avg_factor"])
        np.testing.assert_allclose(loss.numpy(), arrays[f"{name}_elementwise"], rtol=1e-5, atol=1e-6)
        assert total.item() == pytest.approx(float(arrays[name]), rel=1e-5, abs=1e-6)


def test_by_hand() -> None:
    """Teacher .8, student .5: the cross entropy is ln 2, whatever the teacher says."""
    student, teacher = torch.zeros(1, dtype=torch.float64), torch.tensor([0.8], dtype=torch.float64).logit()
    cross_entropy = F.binary_cross_entropy_with_logits(student, teacher.sigmoid())
    assert cross_entropy.item() == pytest.approx(0.693147, abs=1e-6)
    assert binary_kl(student, teacher).item() == pytest.approx(0.192745, abs=1e-6)
    assert modulated_binary_cross_entropy(student, teacher).item() == pytest.approx(0.207944, abs=1e-6)
    assert modulated_binary_cross_entropy(student, teacher, beta=2.0).item() == pytest.approx(0.062383, abs=1e-6)
    two_classes = torch.tensor([math.log(3), 0.0], dtype=torch.float64)
    assert softmax_kl(torch.zeros_like(two_classes), two_classes).item() == pytest.approx(0.130812, abs=1e-6)


def test_temperature_by_hand() -> None:
    """T = 2 on doubled logits is T = 1 on the logits, times T²."""
    student = torch.zeros(2, dtype=torch.float64)
    doubled = 2 * torch.tensor([math.log(3), 0.0], dtype=torch.float64)
    assert softmax_kl(student, doubled, 2.0).item() == pytest.approx(4 * 0.130812, abs=4e-6)
    doubled = 2 * torch.tensor(0.8, dtype=torch.float64).logit()
    assert binary_kl(student[0], doubled, 2.0).item() == pytest.approx(4 * 0.192745, abs=4e-6)


CLASSES = 3
drawn_logits = numpy_arrays(np.float64, (2, CLASSES), elements=st.floats(-40, 40)).map(torch.from_numpy)


@given(drawn_logits, drawn_logits, st.floats(0.5, 8))
def test_binary_kl_is_cross_entropy_less_entropy(student: Tensor, teacher: Tensor, temperature: float) -> None:
    student.requires_grad_()
    target = (teacher / temperature).sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(student / temperature, target, reduction="none")
    entropy = F.binary_cross_entropy_with_logits(teacher / temperature, target, reduction="none")
    divergence = binary_kl(student, teacher, temperature)
    # torch's softplus and its entropy of a near-certain target are good to 1e-13 of logits up to 80.
    torch.testing.assert_close(divergence, (cross_entropy - entropy) * temperature**2, rtol=1e-9, atol=1e-9)
    gradients = [torch.autograd.grad(loss.sum(), student)[0] for loss in (divergence, cross_entropy * temperature**2)]
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-9, atol=1e-9)


@given(drawn_logits, drawn_logits, st.floats(0.5, 8))
def test_every_loss_is_a_divergence(student: Tensor, teacher: Tensor, temperature: float) -> None:
    for loss in (
        binary_kl(student, teacher, temperature),
        softmax_kl(student, teacher, temperature),
        modulated_binary_cross_entropy(student, teacher),
    ):
        assert (loss >= -1e-9).all()
    for loss in (
        binary_kl(teacher, teacher, temperature),
        softmax_kl(teacher, teacher, temperature),
        modulated_binary_cross_entropy(teacher, teacher),
    ):
        assert torch.equal(loss, torch.zeros_like(loss))


@given(drawn_logits, drawn_logits)
def test_yes_and_no_are_alike(student: Tensor, teacher: Tensor) -> None:
    for loss in (binary_kl, modulated_binary_cross_entropy):
        torch.testing.assert_close(loss(-student, -teacher), loss(student, teacher), rtol=1e-7, atol=1e-9)


Loss = Callable[[Tensor, Tensor], Tensor]
EVERY_LOSS = pytest.mark.parametrize("loss", [binary_kl, softmax_kl, modulated_binary_cross_entropy])


@EVERY_LOSS
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    """Of the modulation too: it is not detached."""
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, CLASSES, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda raw: loss(raw, teacher), (student.requires_grad_(),))


@EVERY_LOSS
def test_no_gradient_flows_into_the_teacher(loss: Loss) -> None:
    student, teacher = torch.zeros(2, CLASSES, requires_grad=True), torch.rand(2, CLASSES, requires_grad=True)
    gradients = torch.autograd.grad(loss(student, teacher).sum(), (student, teacher), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


@EVERY_LOSS
def test_the_optimum_has_a_finite_gradient(loss: Loss) -> None:
    student = torch.tensor([[2.0, -3.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(student, student).sum(), student)
    torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-6)


@EVERY_LOSS
def test_extreme_logits(loss: Loss) -> None:
    student = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    value = loss(student, -student)
    (gradient,) = torch.autograd.grad(value.sum(), student)
    assert value.isfinite().all()
    assert value.sum() > 1e4
    assert gradient.isfinite().all()
    assert gradient[0, 0] > 0 > gradient[0, 1]


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(loss: Loss, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = ((torch.randn(5, CLASSES, generator=generator) * 8).to(dtype) for _ in range(2))
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(student, teacher)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(student.float(), teacher.float()))


@EVERY_LOSS
def test_no_candidates(loss: Loss) -> None:
    empty = torch.zeros(0, CLASSES)
    assert loss(empty, empty).sum().item() == 0


def test_weighted_binary_cross_entropy_by_hand() -> None:
    """P_t = (.5 background, .5), P_s = (.8, .2)."""
    student, teacher = torch.tensor(0.2).logit(), torch.tensor(0.0)
    assert weighted_binary_cross_entropy(student, teacher).item() == pytest.approx(0.972077, abs=1e-6)
    assert weighted_binary_cross_entropy(student, teacher, 1.0).item() == pytest.approx(0.916291, abs=1e-6)


@given(student=st.floats(-20, 20), teacher=st.floats(-20, 20), weight=st.floats(0.1, 5))
def test_weighted_binary_cross_entropy_is_cross_entropy_whose_no_weighs(
    student: float, teacher: float, weight: float
) -> None:
    own = torch.tensor(student, dtype=torch.float64, requires_grad=True)
    other = torch.tensor(teacher, dtype=torch.float64, requires_grad=True)
    loss = weighted_binary_cross_entropy(own, other, weight)
    p, q = other.detach().sigmoid(), own.detach().sigmoid()
    expected = p * F.softplus(-own.detach()) + weight * (1 - p) * F.softplus(own.detach())
    assert loss.item() == pytest.approx(expected.item())
    gradient, none = torch.autograd.grad(loss, (own, other), allow_unused=True)
    assert gradient.item() == pytest.approx((weight * (1 - p) * q - p * (1 - q)).item(), abs=1e-12)
    assert none is None
