from __future__ import annotations

import copy

import pytest
import torch

from detdistill.distill.preflight import Loss, Preflight, preflight
from detdistill.teachers.detector_teacher import DetectorTeacher
from support.pairs import batch, confident, distiller
from support.tiny_detector import tiny_detector

TERMS: dict[str, dict[str, str]] = {"rank_mimicking": {}, "prediction_guided": {}, "hint": {"adapter": "always"}}


def test_it_leaves_no_trace() -> None:
    learner = distiller(tiny_detector(), confident(tiny_detector(seed=1, channels=24)), TERMS, weight=None).train()
    learner.student.get_submodule("backbone").eval()
    for parameter in learner.parameters():
        parameter.grad = torch.ones_like(parameter)
    modes = [module.training for module in learner.modules()]
    assert isinstance(learner.teacher, DetectorTeacher)
    both = {"student": learner.student, "teacher": learner.teacher.detector}
    before = copy.deepcopy({name: module.state_dict() for name, module in both.items()})
    weighting, random = copy.deepcopy(learner.weighting.state()), torch.get_rng_state()
    report = preflight(learner, *batch([0, 1, 2], [2, 1]))
    assert not report.warnings
    assert torch.equal(torch.get_rng_state(), random)
    assert learner.weighting.state() == weighting
    assert [module.training for module in learner.modules()] == modes
    assert all(parameter.grad is not None and bool((parameter.grad == 1).all()) for parameter in learner.parameters())
    for name, module in both.items():
        assert all(torch.equal(value, before[name][key]) for key, value in module.state_dict().items())


def test_losses_gradients_and_weights() -> None:
    student, teacher = tiny_detector(), confident(tiny_detector(seed=1))
    automatic, given = (distiller(student, teacher, TERMS, weight) for weight in (None, 3.0))
    example = batch([0, 1, 2], [2, 1])
    found, fixed = preflight(automatic, *example), preflight(given, *example)
    assert found.notes == tuple(automatic.notes)
    detection, *terms = found.losses
    assert [loss.name for loss in found.losses] == ["detection", *TERMS]
    assert detection.weight is None
    for loss in terms:
        assert loss.is_automatic
        assert loss.weight == pytest.approx(0.5 * detection.gradient / loss.gradient)
    assert [loss.weight for loss in fixed.losses[1:]] == [3.0, 3.0, 3.0]
    assert [loss.value for loss in fixed.losses] == pytest.approx([loss.value for loss in found.losses])


def test_a_term_without_a_gradient_is_told() -> None:
    student, teacher = tiny_detector(), confident(tiny_detector(seed=1))
    for weight, warned in ((None, True), (2.0, True), (0.0, False)):
        report = preflight(distiller(student, teacher, TERMS, weight), *batch([], []))
        assert [text.split()[0] for text in report.warnings] == (["rank_mimicking"] if warned else [])
        assert ("WARNING: rank_mimicking gives no gradient in the first batch" in str(report)) == warned


def test_the_table_in_plain_words() -> None:
    losses = (
        Loss("detection", 1.25, 0.5),
        Loss("rank_mimicking", 0.0625, 0.125, 2.0, is_automatic=True),
        Loss("hint", 12.5, 1.0, 0.001),
    )
    assert str(Preflight(("classes: the same 3 in the same order",), losses)).splitlines() == [
        "classes: the same 3 in the same order",
        "losses of the first batch, before they are weighted; gradient: its length at the student's pyramid features; "
        "auto: a first guess, which follows the gradients until the warm-up is over",
        "                      loss  gradient    weight",
        "  detection           1.25       0.5         1",
        "  rank_mimicking    0.0625     0.125         2 (auto, at first)",
        "  hint                12.5         1     0.001",
    ]


@pytest.mark.parametrize("loss", [Loss("hint", float("nan"), 1.0, 1.0), Loss("detection", 1.0, float("inf"))])
def test_a_loss_that_is_not_finite(loss: Loss) -> None:
    (warning,) = Preflight((), (loss,)).warnings
    assert warning.startswith(f"{loss.name} is not finite in the first batch")
