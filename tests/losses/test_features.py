from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from conftest import Golden
from detdistill.core.errors import DetdistillError
from detdistill.losses.features import (
    channel_attention,
    channel_wise_divergence,
    pearson_imitation,
    relation_imitation,
    spatial_attention,
    standardized,
)
from support.golden_losses import Arrays, as_tensor

BOTH_PRECISIONS = pytest.mark.parametrize("dtype", [torch.float32, torch.float64])


def channel(*cells: float) -> Tensor:
    """One image, one channel, one row."""
    return torch.tensor(cells, dtype=torch.float64)[None, None, None]


def levels_of(arrays: Arrays) -> range:
    return range(sum(name.startswith("student_l") for name in arrays))


def assert_value(value: Tensor, expected: NDArray[Any]) -> None:
    np.testing.assert_allclose(value.detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def assert_gradient(loss: Tensor, of: Tensor, expected: NDArray[Any]) -> None:
    (gradient,) = torch.autograd.grad(loss, of)
    assert np.abs(gradient.numpy() - expected).max() < 2e-5 * np.abs(expected).max()


@pytest.mark.golden
@BOTH_PRECISIONS
class TestGolden:
    @pytest.fixture
    def arrays(self, golden: Golden) -> Arrays:
        return golden("distill_pkd_cwd")

    def test_pearson_imitation(self, arrays: Arrays, dtype: torch.dtype) -> None:
        students, teachers = [], []
        for level in levels_of(arrays):
            student, teacher = (as_tensor(arrays[f"{side}_l{level}"], dtype) for side in ("student", "teacher"))
            loss = pearson_imitation([student.requires_grad_()], [teacher])
            assert_value(loss, arrays[f"pkd_l{level}"])
            assert_gradient(loss, student, arrays[f"pkd_grad_l{level}"])
            students.append(student)
            teachers.append(teacher)
        total = 10 * pearson_imitation(students, teachers)
        assert_value(total, arrays["pkd_sum_w10"])
        assert_value(standardized(students[0]), arrays["pkd_norm_student_l0"])

    def test_pearson_imitation_of_a_resized_student(self, arrays: Arrays, dtype: torch.dtype) -> None:
        student, teacher = as_tensor(arrays["student_small"], dtype), as_tensor(arrays["teacher_l0"], dtype)
        resized = F.interpolate(student.requires_grad_(), size=teacher.shape[2:], mode="bilinear", align_corners=False)
        loss = pearson_imitation([resized], [teacher])
        assert_value(loss, arrays["pkd_small"])
        assert_gradient(loss, student, arrays["pkd_small_grad"])

    @pytest.mark.parametrize("temperature", [1, 4])
    def test_channel_wise_divergence(self, arrays: Arrays, dtype: torch.dtype, temperature: int) -> None:
        for level in levels_of(arrays):
            student, teacher = (as_tensor(arrays[f"{side}_l{level}"], dtype) for side in ("student", "teacher"))
            loss = channel_wise_divergence([student.requires_grad_()], [teacher], temperature)
            assert_value(loss, arrays[f"cwd_tau{temperature}_l{level}"])
            assert_gradient(loss, student, arrays[f"cwd_tau{temperature}_grad_l{level}"])

    def test_attention(self, golden: Golden, dtype: torch.dtype) -> None:
        arrays = golden("distill_fgd")
        teacher, temperature = as_tensor(arrays["teacher"], dtype), float(arrays["temp"])
        for attention, name in ((spatial_attention, "spatial"), (channel_attention, "channel")):
            assert_value(attention(teacher, temperature), arrays[f"teacher_{name}_attention"])


def test_by_hand() -> None:
    rising = channel(1, 2, 3, 4)
    assert pearson_imitation([rising], [channel(4, 3, 2, 1)]).item() == pytest.approx(1.5, abs=1e-5)
    assert pearson_imitation([rising], [channel(1, 3, 2, 4)]).item() == pytest.approx(0.15, abs=1e-5)
    assert pearson_imitation([rising], [5 * rising - 7]).item() == pytest.approx(0, abs=1e-12)
    teacher, student = channel(math.log(3), 0), channel(0, 0)
    assert channel_wise_divergence([student], [teacher]).item() == pytest.approx(0.130812, abs=1e-6)
    assert channel_wise_divergence([student], [teacher], 2.0).item() == pytest.approx(0.145363, abs=1e-6)
    attention = spatial_attention(channel(1, -3), 0.5)
    torch.testing.assert_close(
        attention, torch.tensor([[[0.035972, 1.964028]]], dtype=torch.float64), rtol=0, atol=1e-6
    )


@st.composite
def maps(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Of a student and a teacher: `(N, Q, H, W)`, float64."""
    shape = tuple(draw(st.integers(1, limit)) for limit in (3, 3, 3, 4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    student, teacher = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


@given(maps(), st.floats(0.1, 10), st.floats(-10, 10))
def test_pearson_imitation_is_one_less_the_correlation(pair: tuple[Tensor, Tensor], scale: float, shift: float) -> None:
    student, teacher = pair
    loss = pearson_imitation([student], [teacher])
    own, other = (level.transpose(0, 1).flatten(1) for level in pair)
    cells = own.shape[1]
    if cells == 1:
        assert loss.item() == 0
        return
    correlation = torch.stack([torch.corrcoef(torch.stack(both))[0, 1] for both in zip(own, other, strict=True)])
    torch.testing.assert_close(loss, (cells - 1) / cells * (1 - correlation).mean(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(pearson_imitation([student * scale + shift], [teacher]), loss, rtol=1e-3, atol=1e-4)


@given(maps(), st.floats(0.3, 10), st.floats(-10, 10))
def test_channel_wise_divergence_is_one(pair: tuple[Tensor, Tensor], temperature: float, shift: float) -> None:
    student, teacher = pair
    loss = channel_wise_divergence([student], [teacher], temperature)
    assert loss.item() >= -1e-12
    assert channel_wise_divergence([teacher], [teacher], temperature).item() == 0
    torch.testing.assert_close(channel_wise_divergence([student + shift], [teacher], temperature), loss)
    twice = [torch.cat((level, level)) for level in pair]
    torch.testing.assert_close(channel_wise_divergence(twice[:1], twice[1:], temperature), loss)


@given(maps(), st.floats(0.3, 10))
def test_attention_averages_one(pair: tuple[Tensor, Tensor], temperature: float) -> None:
    for attention in (spatial_attention, channel_attention):
        weights = attention(pair[0], temperature)
        assert (weights > 0).all()
        torch.testing.assert_close(weights.flatten(1).mean(dim=1), torch.ones(len(weights), dtype=torch.float64))
        assert torch.equal(attention(-pair[0], temperature), weights)


def test_levels_add_up_and_processes_share() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = ([torch.randn(2, 3, side, 4, generator=generator) for side in (4, 2)] for _ in range(2))
    for loss in (pearson_imitation, channel_wise_divergence):
        total = loss(student, teacher)
        alone = [loss([own], [other]) for own, other in zip(student, teacher, strict=True)]
        torch.testing.assert_close(total, alone[0] + alone[1])
        torch.testing.assert_close(loss(student, teacher, reduce_sum=lambda value: 2 * value), total / 2)


def test_gradients_are_those_of_finite_differences() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 2, 2, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    assert torch.autograd.gradcheck(lambda own: pearson_imitation([own], [teacher]), (student.requires_grad_(),))
    assert torch.autograd.gradcheck(lambda own: channel_wise_divergence([own], [teacher], 2.0), (student,))
    assert torch.autograd.gradcheck(lambda own: spatial_attention(own, 0.5).square().sum(), (student,))


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (2, 2, 3, 3)])
def test_constant_channels_and_single_cells_are_finite(shape: tuple[int, ...]) -> None:
    student = torch.full(shape, 3.0, requires_grad=True)
    teacher = torch.arange(student.numel(), dtype=torch.float32).view(shape)
    for loss in (pearson_imitation([student], [teacher]), pearson_imitation([student], [student])):
        (gradient,) = torch.autograd.grad(loss, student)
        assert loss.isfinite()
        assert gradient.isfinite().all()


def test_no_gradient_flows_into_the_teacher_and_half_precision_is_widened() -> None:
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(2, 3, 4, 4, generator=generator).bfloat16().requires_grad_() for _ in range(2))
    for loss in (pearson_imitation, channel_wise_divergence):
        with torch.autocast("cpu", torch.bfloat16):
            value = loss([student], [teacher])
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, loss([student.float()], [teacher.float()]))
        gradients = torch.autograd.grad(value, (student, teacher), allow_unused=True)
        assert gradients[0].abs().sum() > 0
        assert gradients[1] is None


def test_maps_of_other_channels_are_refused() -> None:
    for loss in (pearson_imitation, channel_wise_divergence):
        with pytest.raises(DetdistillError, match=r"level 0: student \(1, 2, 3, 3\) and teacher \(1, 4, 3, 3\)"):
            loss([torch.zeros(1, 2, 3, 3)], [torch.zeros(1, 4, 3, 3)])


def column(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)[:, None]


def test_relations_by_hand() -> None:
    """Distances 1, 3, 2 are in proportion .5, 1.5, 1; distances 1, 2, 1 are .75, 1.5, .75."""
    assert relation_imitation(column(0, 1, 2), column(0, 1, 3)).item() == pytest.approx(0.25**2 / 2 * 2 / 3)
    assert relation_imitation(column(0, 1, 2), column(0, 1, 3)).item() == pytest.approx(0.0208333, abs=1e-7)


def test_a_distance_of_0_counts_but_not_in_the_mean() -> None:
    """Student: 0, 2, 2 over the mean 2. Teacher: 1, 2, 1 over 4/3."""
    loss = relation_imitation(column(1, 1, 3), column(0, 1, 2))
    assert loss.item() == pytest.approx((0.75**2 + 0.5**2 + 0.25**2) / 2 / 3)


@st.composite
def things(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    count, depth = draw(st.integers(3, 7)), draw(st.integers(1, 5))
    student, teacher = (torch.randn(count, depth, generator=generator, dtype=torch.float64) for _ in range(2))
    return student, teacher


@given(things=things(), scale=st.floats(0.1, 10), shift=st.floats(-5, 5))
def test_it_is_the_definition_and_only_proportions_count(
    things: tuple[Tensor, Tensor], scale: float, shift: float
) -> None:
    student, teacher = things
    count = len(student)
    proportions = []
    for side in things:
        distances = torch.tensor([[float((a - b).norm()) for b in side] for a in side])
        proportions.append(distances / distances[distances > 0].mean())
    difference = (proportions[0] - proportions[1]).abs()
    by_pair = torch.where(difference < 1, difference**2 / 2, difference - 0.5)
    loss = relation_imitation(student, teacher)
    assert loss.item() == pytest.approx(by_pair.sum().item() / (count**2 - count), rel=1e-5, abs=1e-7)
    assert relation_imitation(scale * student + shift, teacher).item() == pytest.approx(loss.item(), abs=1e-9)
    assert relation_imitation(scale * teacher + shift, teacher).item() == pytest.approx(0, abs=1e-9)
    order = torch.randperm(count)
    assert relation_imitation(student[order], teacher[order]).item() == pytest.approx(loss.item(), abs=1e-9)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_relate_to_nothing(count: int) -> None:
    student = torch.rand(count, 4, requires_grad=True)
    loss = relation_imitation(student, torch.rand(count, 4))
    assert loss.item() == 0
    assert torch.equal(torch.autograd.grad(loss, student)[0], torch.zeros(count, 4))


def test_things_that_are_all_the_same_have_a_finite_gradient() -> None:
    student = torch.ones(4, 3, requires_grad=True)
    loss = relation_imitation(student, torch.rand(4, 3))
    assert loss.isfinite()
    assert torch.autograd.grad(loss, student)[0].isfinite().all()
