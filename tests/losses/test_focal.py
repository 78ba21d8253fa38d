"""Centerness has no wrapper of ours: its golden arrays (`ctr_*`) describe torch's own binary cross entropy."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss

from conftest import Golden
from detdistill.core.structures import BACKGROUND, IGNORED
from detdistill.losses.focal import focal_loss, quality_focal_loss, varifocal_loss
from support.golden_losses import Arrays, assert_matches


@pytest.mark.golden
class TestGolden:
    @pytest.fixture
    def arrays(self, golden: Golden) -> Arrays:
        arrays = golden("losses_cls")
        background = arrays["cls_logits"].shape[-1]
        arrays["cls_labels"][arrays["cls_labels"] == background] = -1
        return arrays

    def test_focal_loss(self, arrays: Arrays) -> None:
        assert_matches(
            arrays,
            "focal",
            lambda logits, get: focal_loss(logits, get("cls_labels")),
            prediction="cls_logits",
            weight="cls_weight",
        )

    def test_focal_loss_with_other_parameters(self, arrays: Arrays) -> None:
        assert_matches(
            arrays,
            "focal_g15_a50",
            lambda logits, get: focal_loss(logits, get("cls_labels"), alpha=0.5, gamma=1.5),
            prediction="cls_logits",
            weight="cls_weight",
            loss_weight=2.0,
        )

    def test_focal_loss_is_torchvision_s(self, arrays: Arrays) -> None:
        loss = focal_loss(torch.from_numpy(arrays["cls_logits"]), torch.from_numpy(arrays["cls_labels"]))
        expected = torch.from_numpy(arrays["focal_torchvision_elementwise"])
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)

    def test_quality_focal_loss(self, arrays: Arrays) -> None:
        assert_matches(
            arrays,
            "qfl",
            lambda logits, get: quality_focal_loss(logits, get("cls_labels"), get("cls_quality")),
            prediction="cls_logits",
            weight="cls_weight",
        )

    def test_quality_focal_loss_of_probabilities(self, arrays: Arrays) -> None:
        """GFLv2's loss of a joint probability is ours of its logit, and so are the gradients."""
        assert_matches(
            arrays,
            "qfl_prob",
            lambda joint, get: quality_focal_loss(joint.logit(), get("cls_labels"), get("cls_quality")),
            prediction="qfl_prob_in",
            weight="cls_weight",
        )

    @pytest.mark.parametrize(("name", "iou_weighted"), [("vfl", True), ("vfl_noiouw", False)])
    def test_varifocal_loss(self, arrays: Arrays, name: str, iou_weighted: bool) -> None:
        assert_matches(
            arrays,
            name,
            lambda logits, get: varifocal_loss(logits, get("vfl_target"), iou_weighted=iou_weighted),
            prediction="cls_logits",
            weight="cls_weight",
        )


def test_by_hand() -> None:
    logit, positive, background = torch.zeros(1, 1), torch.tensor([0]), torch.tensor([-1])
    assert focal_loss(logit, positive).item() == pytest.approx(0.0433217, abs=1e-7)
    assert focal_loss(logit, background).item() == pytest.approx(0.1299651, abs=1e-7)
    assert quality_focal_loss(logit, positive, torch.tensor([0.6])).item() == pytest.approx(0.00693147, abs=1e-8)
    assert varifocal_loss(logit, torch.tensor([[0.6]])).item() == pytest.approx(0.4158883, abs=1e-7)
    assert varifocal_loss(logit, torch.zeros(1, 1)).item() == pytest.approx(0.1299651, abs=1e-7)


def one_hot(labels: Tensor, classes: int) -> Tensor:
    return (labels[..., None] == torch.arange(classes)).double()


def counts(labels: Tensor) -> Tensor:
    """1 for every candidate that is not ignored."""
    return (labels != IGNORED).double()


logit_values = st.floats(-60, 60)
CLASSES = 3


@st.composite
def candidates(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Logits `(2, P, C)`, labels `(2, P)` with background and ignored among them, qualities `(2, P)`."""
    count = draw(st.integers(0, 4))
    logits = draw(st.lists(logit_values, min_size=2 * count * CLASSES, max_size=2 * count * CLASSES))
    labels = draw(st.lists(st.integers(-2, CLASSES - 1), min_size=2 * count, max_size=2 * count))
    quality = draw(st.lists(st.floats(0, 1), min_size=2 * count, max_size=2 * count))
    return (
        torch.tensor(logits, dtype=torch.float64).reshape(2, count, CLASSES),
        torch.tensor(labels, dtype=torch.int64).reshape(2, count),
        torch.tensor(quality, dtype=torch.float64).reshape(2, count),
    )


@given(candidates(), st.floats(0, 1), st.floats(0, 5))
def test_focal_loss_and_its_gradient_are_torchvision_s(
    drawn: tuple[Tensor, Tensor, Tensor], alpha: float, gamma: float
) -> None:
    logits, labels, _ = drawn
    logits.requires_grad_()
    loss = focal_loss(logits, labels, alpha, gamma)
    expected = sigmoid_focal_loss(logits, one_hot(labels, CLASSES), alpha, gamma) * counts(labels)[..., None]
    # torch's softplus is linear from 20 on, 2e-9 from its definition.
    torch.testing.assert_close(loss, expected, rtol=1e-8, atol=1e-8)
    weights = torch.linspace(-1, 2, logits.numel()).double().reshape(logits.shape)
    gradient = torch.autograd.grad((loss * weights).sum(), logits)[0]
    # torchvision's power of 1 - p has no finite slope where p rounds to its target and gamma is below 1.
    steep = (logits.abs() > 30) if gamma < 1 else torch.zeros_like(logits, dtype=torch.bool)
    expected_gradient = torch.autograd.grad((expected * weights).sum(), logits)[0]
    torch.testing.assert_close(gradient[~steep], expected_gradient[~steep], rtol=1e-7, atol=1e-7)


@given(candidates(), st.floats(1, 4))
def test_quality_focal_loss_at_full_quality_is_focal_loss(drawn: tuple[Tensor, Tensor, Tensor], beta: float) -> None:
    logits, labels, _ = drawn
    quality = torch.ones_like(labels, dtype=logits.dtype)
    expected = 2 * focal_loss(logits, labels, alpha=0.5, gamma=beta).sum(dim=-1)
    torch.testing.assert_close(quality_focal_loss(logits, labels, quality, beta), expected, rtol=1e-7, atol=1e-7)


@given(candidates(), st.floats(1, 4))
def test_quality_focal_loss_is_its_definition(drawn: tuple[Tensor, Tensor, Tensor], beta: float) -> None:
    logits, labels, quality = drawn
    target = one_hot(labels, CLASSES) * quality[..., None]
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    expected = ((target - logits.sigmoid()).abs() ** beta * cross_entropy).sum(dim=-1) * counts(labels)
    torch.testing.assert_close(quality_focal_loss(logits, labels, quality, beta), expected, rtol=1e-7, atol=1e-7)


@given(candidates(), st.floats(0, 1), st.floats(0, 4), st.booleans())
def test_varifocal_loss_is_its_definition(
    drawn: tuple[Tensor, Tensor, Tensor], alpha: float, gamma: float, iou_weighted: bool
) -> None:
    logits, labels, quality = drawn
    target = one_hot(labels, CLASSES) * quality[..., None]
    weight = alpha * logits.sigmoid() ** gamma
    weight[target > 0] = target[target > 0] if iou_weighted else 1.0
    expected = weight * F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    loss = varifocal_loss(logits, target, alpha, gamma, iou_weighted=iou_weighted)
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)
    ignored = labels == IGNORED
    loss = varifocal_loss(logits, target, alpha, gamma, iou_weighted=iou_weighted, ignored=ignored)
    expected = expected * counts(labels)[..., None]
    torch.testing.assert_close(loss, expected, rtol=1e-7, atol=1e-7)


@given(candidates(), st.integers(0, CLASSES - 1))
def test_ignored_candidates_cost_nothing_and_change_no_bit_of_others(
    drawn: tuple[Tensor, Tensor, Tensor], shift: int
) -> None:
    logits, labels, quality = drawn
    logits.requires_grad_()
    ignored, background = labels == IGNORED, labels.clamp(min=BACKGROUND)
    target = one_hot(labels, CLASSES) * quality[..., None]
    losses = (
        focal_loss(logits, labels),
        quality_focal_loss(logits, labels, quality),
        varifocal_loss(logits, target, ignored=ignored),
    )
    without = (
        focal_loss(logits, background),
        quality_focal_loss(logits, background, quality),
        varifocal_loss(logits, target),
    )
    for loss, plain in zip(losses, without, strict=True):
        assert (loss >= 0).all()
        assert not loss[ignored].any()
        assert torch.equal(loss[~ignored], plain[~ignored])
        found, expected = (torch.autograd.grad(each.sum(), logits)[0] for each in (loss, plain))
        assert not found[ignored].any()
        assert torch.equal(found[~ignored], expected[~ignored])
    # Classes have no order.
    rolled = torch.where(labels >= 0, (labels + shift) % CLASSES, labels)
    torch.testing.assert_close(focal_loss(logits.roll(shift, dims=-1), rolled).roll(-shift, dims=-1), losses[0])


Loss = Callable[[Tensor], Tensor]
LABELS = torch.tensor([0, -1, 2, -2, 1])
QUALITY = torch.tensor([0.25, 0.0, 0.875, 0.0, 1.0], dtype=torch.float64)  # exact in half precision
EVERY_LOSS = pytest.mark.parametrize(
    "loss",
    [
        pytest.param(lambda logits: focal_loss(logits, LABELS), id="focal"),
        pytest.param(lambda logits: focal_loss(logits, LABELS, alpha=0.6, gamma=0.5), id="focal_gamma_half"),
        pytest.param(lambda logits: focal_loss(logits, LABELS, gamma=0.0), id="focal_gamma_zero"),
        pytest.param(lambda logits: quality_focal_loss(logits, LABELS, QUALITY.to(logits.dtype)), id="quality_focal"),
        pytest.param(
            lambda logits: varifocal_loss(
                logits, (one_hot(LABELS, 3) * QUALITY[:, None]).to(logits.dtype), ignored=LABELS == IGNORED
            ),
            id="varifocal",
        ),
    ],
)


@EVERY_LOSS
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
    assert torch.autograd.gradcheck(loss, (logits.requires_grad_(),))


@EVERY_LOSS
@pytest.mark.parametrize("size", [100.0, 1e4])
def test_extreme_logits_have_finite_losses_and_gradients(loss: Loss, size: float) -> None:
    signs = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]] * 3)[:5]
    logits = (size * signs).requires_grad_()
    value = loss(logits)
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert value.isfinite().all()
    assert gradient.isfinite().all()
    assert value.max() > 0.05 * size


def test_a_hopelessly_wrong_logit_is_pulled_back_linearly() -> None:
    logits = torch.tensor([[1e4], [-1e4], [-1e4], [1e4]], requires_grad=True)
    loss = focal_loss(logits, torch.tensor([-1, 0, -1, 0]))
    torch.testing.assert_close(loss, torch.tensor([[7.5e3], [2.5e3], [0.0], [0.0]]))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    torch.testing.assert_close(gradient, torch.tensor([[0.75], [-0.25], [0.0], [0.0]]))


def test_confident_background_keeps_its_digits() -> None:
    """Near zero probability the cross entropy is the probability; a logarithm of 1 - p would round to nothing."""
    logits = torch.tensor([[-18.0]])
    probability = torch.tensor(-18.0, dtype=torch.float64).sigmoid()
    loss = focal_loss(logits, torch.tensor([-1]), alpha=0.0, gamma=0.0)
    assert loss.item() == pytest.approx(probability.item(), rel=1e-6)


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(loss: Loss, dtype: torch.dtype) -> None:
    logits = (torch.randn(5, 3, generator=torch.Generator().manual_seed(0)) * 8).to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(logits)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(logits.detach().float()))
    (gradient,) = torch.autograd.grad(value.sum(), logits)
    assert gradient.isfinite().all()


def test_logits_are_left_as_they_were() -> None:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    before = logits.clone()
    focal_loss(logits, LABELS)
    quality_focal_loss(logits, LABELS, QUALITY.float())
    varifocal_loss(logits, one_hot(LABELS, 3).float())
    assert torch.equal(logits, before)


def test_a_second_derivative_is_refused() -> None:
    """Backward uses a slope that forward saved: differentiating it again would silently give a wrong number."""
    logits = torch.zeros(1, 1, requires_grad=True)
    weighted = focal_loss(logits, torch.tensor([-1])) * logits
    (gradient,) = torch.autograd.grad(weighted.sum(), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(gradient.sum())


def smoothed(logits: Tensor, labels: Tensor, gamma: float, smoothing: float) -> Tensor:
    """The plain form: weights and modulation of hard targets, cross entropy with smooth ones."""
    hard = one_hot(labels, logits.shape[-1])
    p = logits.sigmoid()
    modulation = (hard * (1 - p) + (1 - hard) * p) ** gamma * (0.25 * hard + 0.75 * (1 - hard))
    soft = hard * (1 - smoothing) + smoothing / 2
    entropy = F.binary_cross_entropy_with_logits(logits, soft, reduction="none")
    return modulation * entropy * counts(labels)[..., None]


@given(candidates(), st.sampled_from([0.0, 1.5, 2.0]), st.sampled_from([0.0, 0.1, 1.0]))
def test_label_smoothing_is_the_plain_form(
    drawn: tuple[Tensor, Tensor, Tensor], gamma: float, smoothing: float
) -> None:
    logits, labels, _ = drawn
    logits = logits.double().clamp(-30, 30).requires_grad_()
    found = focal_loss(logits, labels, gamma=gamma, label_smoothing=smoothing)
    expected = smoothed(logits, labels, gamma, smoothing)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
    gradients = [torch.autograd.grad(each.sum(), logits)[0] for each in (found, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-7, atol=1e-12)


def test_efficientdets_focal_loss_by_hand() -> None:
    logit = torch.zeros(1, 1)
    assert focal_loss(logit, torch.tensor([0]), gamma=1.5).item() == pytest.approx(0.0612661, abs=1e-7)
    assert focal_loss(logit, torch.tensor([-1]), gamma=1.5).item() == pytest.approx(0.1837984, abs=1e-7)
