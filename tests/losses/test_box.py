"""The golden arrays `l1_*` and `smooth_l1_*` describe torch's own functions, of which there is no wrapper here."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from conftest import Golden
from detdistill.core.boxes import aligned_iou
from detdistill.losses.box import ciou_loss, diou_loss, giou_loss, iou_loss, teacher_bounded_regression
from support.box_strategies import boxes
from support.golden_losses import assert_matches

BoxLoss = Callable[[Tensor, Tensor], Tensor]


def log_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    return iou_loss(pred, target, form="log")


def linear_iou_loss(pred: Tensor, target: Tensor) -> Tensor:
    return iou_loss(pred, target, form="linear")


def all_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    shape = (len(a), len(b), 4)
    return a[:, None].expand(shape), b.expand(shape)


LOSSES = {
    "iou_log": log_iou_loss,
    "iou_linear": linear_iou_loss,
    "giou": giou_loss,
    "diou": diou_loss,
    "ciou": ciou_loss,
}
EVERY_LOSS = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES.keys())


@pytest.mark.golden
class TestGolden:
    @pytest.mark.parametrize("name", LOSSES)
    def test_values_and_gradients(self, golden: Golden, name: str) -> None:
        assert_matches(
            golden("losses_box"),
            name,
            lambda pred, get: LOSSES[name](pred, get("box_target")),
            prediction="box_pred",
            weight="box_weight",
            loss_weight=2.0 if name == "giou" else 1.0,
        )

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    @pytest.mark.parametrize("name", ["iou_log", "giou", "diou", "ciou"])
    def test_degenerate_boxes(self, golden: Golden, name: str, dtype: torch.dtype) -> None:
        arrays = golden("losses_box")
        pred, target, expected = (
            torch.from_numpy(arrays[key]).to(dtype) for key in ("edge_pred", "edge_target", f"edge_{name}")
        )
        torch.testing.assert_close(LOSSES[name](pred, target), expected, rtol=1e-5, atol=1e-6)

    def test_where_torchvision_agrees(self, golden: Golden) -> None:
        arrays = golden("losses_box")
        pred, target = torch.from_numpy(arrays["box_pred"]), torch.from_numpy(arrays["box_target"])
        giou, diou, ciou = (torch.from_numpy(arrays[f"tv_{name}_elementwise"]) for name in ("giou", "diou", "ciou"))
        torch.testing.assert_close(giou_loss(pred, target), giou, rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(diou_loss(pred, target), diou, rtol=1e-5, atol=1e-6)
        # torchvision's CIoU has no threshold on the IoU: up to 0.5 ours is the DIoU loss.
        close = aligned_iou(pred, target) > 0.5
        torch.testing.assert_close(ciou_loss(pred, target), torch.where(close, ciou, diou), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
    def test_giou_of_all_pairs(self, golden: Golden, dtype: torch.dtype) -> None:
        arrays = golden("coders")
        a, b = torch.from_numpy(arrays["ov_a"]).to(dtype), torch.from_numpy(arrays["ov_b"]).to(dtype)
        aligned, pairs = torch.from_numpy(arrays["ov_giou_aligned"]), torch.from_numpy(arrays["ov_giou"])
        every_a, every_b = all_pairs(a, b)
        torch.testing.assert_close(1 - giou_loss(every_a, every_b), pairs.to(dtype), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(1 - giou_loss(a, b[: len(a)]), aligned.to(dtype), rtol=1e-5, atol=1e-6)


def test_by_hand() -> None:
    pred, target = torch.tensor([0.0, 0.0, 2.0, 2.0]), torch.tensor([1.0, 1.0, 3.0, 3.0])
    assert iou_loss(pred, target, form="linear").item() == pytest.approx(6 / 7)
    assert iou_loss(pred, target).item() == pytest.approx(1.9459101)
    assert giou_loss(pred, target).item() == pytest.approx(6 / 7 + 2 / 9)
    assert diou_loss(pred, target).item() == pytest.approx(6 / 7 + 2 / 18)
    # One aspect ratio: no further term. A flat box in a square of twice its area, on one centre: IoU 1/2, α 0.
    assert ciou_loss(pred, target).item() == pytest.approx(6 / 7 + 2 / 18)
    flat, square = torch.tensor([0.0, 1.0, 4.0, 3.0]), torch.tensor([0.0, 0.0, 4.0, 4.0])
    assert ciou_loss(flat, square).item() == pytest.approx(0.5)
    # IoU 3/4: arctan(4/3) - arctan(1) = 0.1418971, v = 0.0081604, α = v / (1/4 + v).
    higher = torch.tensor([0.0, 0.5, 4.0, 3.5])
    assert ciou_loss(higher, square).item() == pytest.approx(0.25 + 0.0081604**2 / (0.25 + 0.0081604), abs=1e-6)


@given(boxes(), boxes())
def test_ranges_and_symmetry(a: Tensor, b: Tensor) -> None:
    rounding = 1e-9
    for name, loss in LOSSES.items():
        value = loss(a, b)
        largest = {"iou_log": 13.82, "iou_linear": 1.0}.get(name, 2.0)
        assert ((value >= -rounding) & (value <= largest + rounding)).all(), name
        torch.testing.assert_close(value, loss(b, a), rtol=0, atol=rounding)
    assert (giou_loss(a, b) >= iou_loss(a, b, form="linear") - 2e-6).all()
    assert (ciou_loss(a, b) >= diou_loss(a, b)).all()


@EVERY_LOSS
@given(boxes(smallest_side=1))
def test_a_box_loses_nothing_against_itself(loss: BoxLoss, a: Tensor) -> None:
    torch.testing.assert_close(loss(a, a), torch.zeros(len(a), dtype=a.dtype), rtol=0, atol=2e-6)


@EVERY_LOSS
@given(boxes(smallest_side=1), boxes(smallest_side=1), st.integers(-4096, 4096), st.sampled_from([0.5, 2.0, 8.0]))
def test_no_loss_depends_on_place_and_scale(loss: BoxLoss, a: Tensor, b: Tensor, shift: int, scale: float) -> None:
    value = loss(a, b)
    # The epsilon beside areas is an absolute one: 4e-6 of a box of one half by one half pixel.
    torch.testing.assert_close(loss(a + shift, b + shift), value, rtol=0, atol=1e-5)
    torch.testing.assert_close(loss(a * scale, b * scale), value, rtol=0, atol=1e-5)


def some_boxes(seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(16, 2, generator=generator, dtype=torch.float64) * 12
    sides = torch.rand(16, 2, generator=generator, dtype=torch.float64) * 20 + 5
    return torch.cat((corners, corners + sides), dim=-1)


@pytest.mark.parametrize(
    "loss", [log_iou_loss, linear_iou_loss, giou_loss, diou_loss], ids=lambda function: function.__name__
)
def test_gradients_are_those_of_finite_differences(loss: BoxLoss) -> None:
    assert torch.autograd.gradcheck(loss, (some_boxes(0).requires_grad_(), some_boxes(1).requires_grad_()))


def test_ciou_gradient_holds_alpha_constant() -> None:
    pred, target = some_boxes(0), some_boxes(1)
    pred = target + (pred - target) * 0.2
    iou = aligned_iou(pred, target)
    assert (iou > 0.5).any()
    pred.requires_grad_()
    (gradient,) = torch.autograd.grad((ciou_loss(pred, target) - diou_loss(pred, target)).sum(), pred)

    def aspect_term(boxes: Tensor) -> Tensor:
        angle = torch.atan((boxes[:, 2] - boxes[:, 0]) / (boxes[:, 3] - boxes[:, 1]))
        goal = torch.atan((target[:, 2] - target[:, 0]) / (target[:, 3] - target[:, 1]))
        return 4 / torch.pi**2 * (angle - goal) ** 2

    v = aspect_term(pred)
    alpha = torch.where(iou > 0.5, v / (1 - iou + v), 0.0).detach()
    (expected,) = torch.autograd.grad((alpha * v).sum(), pred)
    torch.testing.assert_close(gradient, expected)


DEGENERATE = torch.tensor(
    [
        [5.0, 5.0, 5.0, 5.0],
        [5.0, 5.0, 9.0, 5.0],
        [5.0, 5.0, 5.0, 9.0],
        [5.0, 5.0, 6.0, 6.0],
        [-1e5, -1e5, 1e5, 1e5],
        [0.0, 0.0, 1333.0, 800.0],
        [1e5, 1e5, 1e5 + 1, 1e5 + 1],
    ]
)


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_pair_of_degenerate_boxes_is_finite(loss: BoxLoss, dtype: torch.dtype) -> None:
    pred, target = all_pairs(DEGENERATE.to(dtype), DEGENERATE.to(dtype))
    pred = pred.clone().requires_grad_()
    value = loss(pred, target)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


@EVERY_LOSS
def test_no_boxes_give_no_loss(loss: BoxLoss) -> None:
    empty = torch.zeros(0, 4, requires_grad=True)
    value = loss(empty, torch.zeros(0, 4))
    assert value.shape == (0,)
    (gradient,) = torch.autograd.grad(value.sum(), empty)
    assert gradient.shape == (0, 4)


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(loss: BoxLoss, dtype: torch.dtype) -> None:
    pred, target = (some_boxes(0) * 30).to(dtype), (some_boxes(1) * 30).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(pred, target)
    assert value.dtype == torch.float32
    assert torch.equal(value, loss(pred.float(), target.float()))


NUMBERS = st.lists(st.floats(-3, 3, width=32), min_size=4, max_size=4)


@pytest.mark.parametrize(
    ("student", "teacher", "margin", "expected"),
    [
        (0.3, 0.1, 0.0, 0.09),
        (0.05, 0.1, 0.0, 0.0),
        (0.05, 0.1, 0.008, 0.0025),  # .0025 + .008 > .01
        (0.05, 0.1, 0.007, 0.0),
        (0.1, 0.1, 0.0, 0.0),
    ],
)
def test_teacher_bounded_regression_by_hand(student: float, teacher: float, margin: float, expected: float) -> None:
    """The target is 0."""
    own = torch.tensor([[student]], dtype=torch.float64, requires_grad=True)
    other, target = torch.tensor([[teacher]], dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    loss = teacher_bounded_regression(own, other, target, margin)
    assert loss.shape == (1,)
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), own)
    assert gradient.item() == pytest.approx(2 * student if expected else 0)


@given(student=NUMBERS, teacher=NUMBERS, target=NUMBERS, margin=st.floats(0, 2), shift=st.floats(-2, 2))
def test_only_errors_count_and_only_those_above_the_teachers(
    student: list[float], teacher: list[float], target: list[float], margin: float, shift: float
) -> None:
    own, other, goal = (torch.tensor(values, dtype=torch.float64) for values in (student, teacher, target))
    loss = teacher_bounded_regression(own, other, goal, margin).item()
    error, bound = float(((own - goal) ** 2).sum()), float(((other - goal) ** 2).sum())
    assert loss == pytest.approx(error if error + margin > bound else 0)
    assert teacher_bounded_regression(own, goal, goal).item() == pytest.approx(error)
    if abs(error + margin - bound) > 1e-6:
        shifted = teacher_bounded_regression(own + shift, other + shift, goal + shift, margin)
        assert shifted.item() == pytest.approx(loss, abs=1e-9)


def test_no_gradient_flows_into_teacher_and_target_and_half_precision_is_widened() -> None:
    own, other, goal = (torch.full((3, 4), value, dtype=torch.bfloat16, requires_grad=True) for value in (3, 1, 0))
    loss = teacher_bounded_regression(own, other, goal)
    assert loss.dtype == torch.float32
    gradients = torch.autograd.grad(loss.sum(), (own, other, goal), allow_unused=True)
    assert gradients[0] is not None
    assert gradients[1] is None
    assert gradients[2] is None
