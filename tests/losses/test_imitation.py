from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.losses.imitation import feature_imitation, prediction_guided_imitation

Form = Literal["product", "l2norm", "square"]
FORMS: tuple[Form, ...] = ("product", "l2norm", "square")
EVERY_FORM = pytest.mark.parametrize("form", FORMS)
Maps = list[Tensor]


def row(*cells: Sequence[float]) -> Tensor:
    """A map `(1, channels, 1, cells)` from the channels of each cell."""
    return torch.tensor(cells, dtype=torch.float64).T[None, :, None]


# P = (.08, .02), F = (2.5, 25), so P·F = (.2, .5).
TEACHER_PREDICTION = row((0.8, 0.2), (0.1, 0.3))
STUDENT_PREDICTION = row((0.4, 0.2), (0.1, 0.1))
TEACHER_FEATURE = row((1, 2), (5, 5))


@pytest.mark.parametrize(
    ("form", "expected", "feature_gradient", "prediction_gradient"),
    [
        ("product", 0.35, row((-0.04, -0.08), (-0.05, -0.05)), row((-0.5, 0), (0, -2.5))),
        # d√Σ(PF)² / 2 is PF · d(PF) / (2√Σ(PF)²): (.2, .5) / .538516 of the product form's.
        (
            "l2norm",
            0.269258,
            row((-0.014856, -0.029711), (-0.046424, -0.046424)),
            row((-0.5 * 0.371391, 0), (0, -2.5 * 0.928477)),
        ),
        # d(PF)² is 2 PF · d(PF): (.4, 1) of the product form's.
        ("square", 0.145, row((-0.016, -0.032), (-0.05, -0.05)), row((-0.5 * 0.4, 0), (0, -2.5))),
    ],
)
def test_prediction_guided_by_hand(
    form: Form, expected: float, feature_gradient: Tensor, prediction_gradient: Tensor
) -> None:
    feature = torch.zeros_like(TEACHER_FEATURE, requires_grad=True)
    prediction = STUDENT_PREDICTION.clone().requires_grad_()
    loss = prediction_guided_imitation([feature], [TEACHER_FEATURE], [prediction], [TEACHER_PREDICTION], form=form)
    assert loss.item() == pytest.approx(expected, abs=1e-6)
    gradients = torch.autograd.grad(loss, (feature, prediction))
    torch.testing.assert_close(gradients[0], feature_gradient, rtol=0, atol=1e-6)
    torch.testing.assert_close(gradients[1], prediction_gradient, rtol=0, atol=3e-6)


def test_levels_count_alike() -> None:
    """.35 over two cells and .05 over one: .20, where a mean over all cells would be .25."""
    loss = prediction_guided_imitation(
        [torch.zeros_like(TEACHER_FEATURE), row((0,))],
        [TEACHER_FEATURE, row((0.5**0.5,))],
        [STUDENT_PREDICTION, row((0,))],
        [TEACHER_PREDICTION, row((0.1**0.5,))],
    )
    assert loss.item() == pytest.approx(0.2, abs=1e-12)


@pytest.mark.parametrize(("form", "expected"), [("product", 0.2), ("l2norm", 0.2), ("square", 0.04)])
def test_padding_does_not_count(form: Form, expected: float) -> None:
    """The second cell is padding, and so is the whole second level, which then is no level."""
    feature = torch.zeros_like(TEACHER_FEATURE, requires_grad=True)
    valid = torch.tensor([[[True, False]]])
    loss = prediction_guided_imitation(
        [feature, row((7,))],
        [TEACHER_FEATURE, row((1,))],
        [STUDENT_PREDICTION, row((3,))],
        [TEACHER_PREDICTION, row((1,))],
        [valid, torch.tensor([[[False]]])],
        form=form,
    )
    assert loss.item() == pytest.approx(expected, abs=1e-12)
    (gradient,) = torch.autograd.grad(loss, feature)
    assert (gradient[..., 0] != 0).all()
    assert (gradient[..., 1] == 0).all()


def test_the_norm_is_taken_image_by_image() -> None:
    """Image one: √(.2² + .5²) / 2. Image two: its first cell alone, .2. Image three is all padding and not counted."""
    valid = torch.tensor([[[True, True]], [[True, False]], [[False, False]]])
    maps = [
        [level.expand(3, -1, -1, -1)]
        for level in (0 * TEACHER_FEATURE, TEACHER_FEATURE, STUDENT_PREDICTION, TEACHER_PREDICTION)
    ]
    loss = prediction_guided_imitation(maps[0], maps[1], maps[2], maps[3], [valid], form="l2norm")
    assert loss.item() == pytest.approx((0.269258 + 0.2) / 2, abs=1e-6)


@EVERY_FORM
def test_a_detached_prediction_only_weighs(form: Form) -> None:
    feature = torch.zeros_like(TEACHER_FEATURE, requires_grad=True)
    prediction = STUDENT_PREDICTION.clone().requires_grad_()
    attached, detached = (
        prediction_guided_imitation(
            [feature], [TEACHER_FEATURE], [prediction], [TEACHER_PREDICTION], form=form, detach_prediction=detach
        )
        for detach in (False, True)
    )
    assert attached.item() == detached.item()
    gradients = torch.autograd.grad(detached, (feature, prediction), allow_unused=True)
    assert torch.equal(gradients[0], torch.autograd.grad(attached, feature)[0])
    assert gradients[1] is None


@EVERY_FORM
def test_zero_where_either_agrees_with_a_finite_gradient(form: Form) -> None:
    for feature, prediction in ((TEACHER_FEATURE, STUDENT_PREDICTION), (0 * TEACHER_FEATURE, TEACHER_PREDICTION)):
        student = (feature.clone().requires_grad_(), prediction.clone().requires_grad_())
        loss = prediction_guided_imitation(
            [student[0]], [TEACHER_FEATURE], [student[1]], [TEACHER_PREDICTION], form=form
        )
        assert loss.item() == 0
        for gradient in torch.autograd.grad(loss, student):
            assert torch.equal(gradient, torch.zeros_like(gradient))


def test_feature_imitation_by_hand() -> None:
    feature = torch.zeros_like(TEACHER_FEATURE, requires_grad=True)
    loss = feature_imitation([feature], [TEACHER_FEATURE])
    assert loss.item() == pytest.approx((2.5 + 25) / 2)
    expected = row((-0.5, -1), (-2.5, -2.5))
    torch.testing.assert_close(torch.autograd.grad(loss, feature)[0], expected)
    weighted = feature_imitation([feature], [TEACHER_FEATURE], [torch.tensor([[[0.3, 0.1]]])])
    assert weighted.item() == pytest.approx((0.3 * 2.5 + 0.1 * 25) / 0.4)
    masked = feature_imitation([feature], [TEACHER_FEATURE], [torch.tensor([[[True, False]]])])
    assert masked.item() == pytest.approx(2.5)


def test_feature_imitation_counts_levels_of_any_weight_alike() -> None:
    students, teachers = [row((0,), (0,)), row((0,)), row((0,))], [row((1,), (3,)), row((2,)), row((9,))]
    assert feature_imitation(students, teachers).item() == pytest.approx((5 + 4 + 81) / 3)
    weights = [torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.2]]]), torch.tensor([[[0.0]]])]
    assert feature_imitation(students, teachers, weights).item() == pytest.approx((1 + 4) / 2)


@st.composite
def pyramids(draw: st.DrawFn) -> tuple[Maps, Maps, Maps, Maps, Maps]:
    """Features and predictions of a student and its teacher, and valid cells: two images, up to three levels."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    share = draw(st.sampled_from([0.0, 0.2, 0.7, 1.0]))
    channels, depth = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    sizes = draw(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=3))

    def maps(depth: int) -> Maps:
        return [torch.randn(2, depth, *size, generator=generator, dtype=torch.float64) for size in sizes]

    valid = [torch.rand(2, *size, generator=generator) < share for size in sizes]
    return maps(channels), maps(channels), maps(depth), maps(depth), valid


def cell_by_cell(form: Form, features: Sequence[Maps], predictions: Sequence[Maps], valid: Maps) -> float:
    """The definition, written with loops."""
    levels = []
    for f_s, f_t, p_s, p_t, cells in zip(*features, *predictions, valid, strict=True):
        images = []
        for n in range(len(cells)):
            guided = [
                ((p_s[n, :, y, x] - p_t[n, :, y, x]) ** 2).mean().item()
                * ((f_s[n, :, y, x] - f_t[n, :, y, x]) ** 2).mean().item()
                for y, x in cells[n].nonzero().tolist()
            ]
            images.append(guided)
        together = [value for guided in images for value in guided]
        if not together:
            continue
        if form == "product":
            levels.append(sum(together) / len(together))
        elif form == "square":
            levels.append(sum(value**2 for value in together) / len(together))
        else:
            norms = [sum(value**2 for value in guided) ** 0.5 / len(guided) for guided in images if guided]
            levels.append(sum(norms) / len(norms))
    return sum(levels) / len(levels) if levels else 0.0


@EVERY_FORM
@given(drawn=pyramids())
def test_prediction_guided_is_its_definition(form: Form, drawn: tuple[Maps, Maps, Maps, Maps, Maps]) -> None:
    f_s, f_t, p_s, p_t, valid = drawn
    loss = prediction_guided_imitation(f_s, f_t, p_s, p_t, valid, form=form)
    assert loss.item() == pytest.approx(cell_by_cell(form, (f_s, f_t), (p_s, p_t), valid), rel=1e-9, abs=1e-12)


@given(drawn=pyramids())
def test_feature_imitation_is_guidance_by_a_difference_of_one(drawn: tuple[Maps, Maps, Maps, Maps, Maps]) -> None:
    students, teachers, predictions, _, valid = drawn
    guided = prediction_guided_imitation(students, teachers, predictions, [level + 1 for level in predictions], valid)
    torch.testing.assert_close(feature_imitation(students, teachers, valid), guided, rtol=1e-9, atol=1e-12)


Loss = Callable[..., Tensor]


def guided_loss(form: Form) -> Loss:
    def loss(
        maps: Sequence[Maps], valid: Maps | None, reduce_sum: Callable[[Tensor], Tensor] = lambda own: own
    ) -> Tensor:
        return prediction_guided_imitation(maps[0], maps[1], maps[2], maps[3], valid, form=form, reduce_sum=reduce_sum)

    return loss


def hint_loss(
    maps: Sequence[Maps], valid: Maps | None, reduce_sum: Callable[[Tensor], Tensor] = lambda own: own
) -> Tensor:
    return feature_imitation(maps[0], maps[1], valid, reduce_sum=reduce_sum)


EVERY_LOSS = pytest.mark.parametrize("loss", [*map(guided_loss, FORMS), hint_loss], ids=[*FORMS, "hint"])


@EVERY_LOSS
@given(drawn=pyramids(), everywhere=st.booleans())
def test_the_shares_of_two_processes_add_up(
    loss: Loss, drawn: tuple[Maps, Maps, Maps, Maps, Maps], everywhere: bool
) -> None:
    """One image in each; a level may have valid cells in one of them only."""
    *maps, valid = drawn
    asked: list[list[Tensor]] = []

    def share(image: int, reduce_sum: Callable[[Tensor], Tensor]) -> Tensor:
        own = [[level[image : image + 1] for level in levels] for levels in drawn]
        return loss(own[:4], None if everywhere else own[4], reduce_sum)

    for image in range(2):
        calls: list[Tensor] = []

        def record(own: Tensor, calls: list[Tensor] = calls) -> Tensor:
            calls.append(own)
            return own

        share(image, record)
        asked.append(calls)
    assert [len(calls) for calls in asked] == [1, 1], "one exchange for all levels"

    def all_reduce(_: Tensor) -> Tensor:
        return asked[0][0] + asked[1][0]

    together = loss(maps, None if everywhere else valid)
    torch.testing.assert_close(share(0, all_reduce) + share(1, all_reduce), together, rtol=1e-9, atol=1e-12)


@EVERY_LOSS
def test_without_valid_cells_the_loss_is_zero_and_connected(loss: Loss) -> None:
    feature = torch.rand(2, 3, 4, 5, requires_grad=True)
    maps = [[feature], *([torch.rand(2, 3, 4, 5)] for _ in range(3))]
    value = loss(maps, [torch.zeros(2, 4, 5, dtype=torch.bool)])
    assert value.item() == 0
    assert torch.equal(torch.autograd.grad(value, feature)[0], torch.zeros(2, 3, 4, 5))


@EVERY_LOSS
def test_no_gradient_flows_into_the_teacher(loss: Loss) -> None:
    maps = [[torch.rand(2, 3, 4, 5, requires_grad=True)] for _ in range(4)]
    gradients = torch.autograd.grad(loss(maps, None), [levels[0] for levels in maps], allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None
    assert gradients[3] is None


@EVERY_LOSS
def test_gradients_are_those_of_finite_differences(loss: Loss) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [[torch.randn(2, 2, 2, 3, generator=generator, dtype=torch.float64)] for _ in range(4)]
    valid = [torch.rand(2, 2, 3, generator=generator) < 0.7]

    def of_student(feature: Tensor, prediction: Tensor) -> Tensor:
        return loss([[feature], maps[1], [prediction], maps[3]], valid)

    assert torch.autograd.gradcheck(of_student, (maps[0][0].requires_grad_(), maps[2][0].requires_grad_()))


@EVERY_LOSS
def test_the_layout_in_memory_does_not_matter(loss: Loss) -> None:
    """Predictions are views of the flat output, channels last."""
    maps = [[torch.rand(2, 3, 4, 5)] for _ in range(4)]
    views = [[levels[0].permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)] for levels in maps]
    torch.testing.assert_close(loss(views, None), loss(maps, None), rtol=1e-6, atol=0)


@EVERY_LOSS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_first(loss: Loss, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = [[(300 * torch.randn(2, 3, 4, 5, generator=generator)).to(dtype)] for _ in range(4)]
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(maps, None)
    assert value.dtype == torch.float32
    assert value.isfinite()
    assert torch.equal(value, loss([[level.float() for level in levels] for levels in maps], None))


def test_weights_in_half_precision_are_summed_in_float32() -> None:
    """A sum of 4,000 ones in bfloat16 stops at 256 if it is summed one by one, and is rounded to 8 bits at best."""
    maps = [torch.zeros(1, 1, 1, 4001)], [torch.ones(1, 1, 1, 4001)]
    assert feature_imitation(*maps, [torch.ones(1, 1, 4001, dtype=torch.bfloat16)]).item() == 1


class TestMisfits:
    def test_number_of_levels(self) -> None:
        maps = [torch.zeros(1, 2, 3, 3)]
        with pytest.raises(DetdistillError, match="student_features has 1 levels and teacher_features has 2"):
            feature_imitation(maps, maps * 2)
        with pytest.raises(DetdistillError, match="student_features has 1 levels and student_predictions has 2"):
            prediction_guided_imitation(maps, maps, maps * 2, maps * 2)

    def test_channels(self) -> None:
        fine = torch.zeros(1, 2, 3, 3)
        with pytest.raises(DetdistillError, match=r"level 1: student_features \(1, 2, 3, 3\).*\(1, 4, 3, 3\).*1x1"):
            feature_imitation([fine, fine], [fine, torch.zeros(1, 4, 3, 3)])
        with pytest.raises(DetdistillError, match=r"level 0: student_predictions \(1, 2, 3, 3\).*\(1, 1, 3, 3\)"):
            prediction_guided_imitation([fine], [fine], [fine], [fine[:, :1]])

    def test_cells(self) -> None:
        fine, coarse = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 2, 2)
        with pytest.raises(DetdistillError, match=r"level 0: student_features .*\(1, 2, 2, 2\).*resize"):
            feature_imitation([fine], [coarse])
        with pytest.raises(DetdistillError, match=r"student_features .* and student_predictions \(1, 2, 2, 2\)"):
            prediction_guided_imitation([fine], [fine], [coarse], [coarse])

    def test_masks(self) -> None:
        fine = torch.zeros(1, 2, 3, 3)
        with pytest.raises(DetdistillError, match=r"level 0: student_features .* and weights \(1, 3, 4\)"):
            feature_imitation([fine], [fine], [torch.ones(1, 3, 4)])
        with pytest.raises(DetdistillError, match=r"level 0: student_features .* and valid \(2, 3, 3\)"):
            prediction_guided_imitation([fine], [fine], [fine], [fine], [torch.ones(2, 3, 3, dtype=torch.bool)])
