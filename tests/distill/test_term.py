"""What a term promises, of the four that the paper is measured by."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.detectors.dense.choices import HeadName
from detdistill.distill.view import View
from support.pairs import batch, confident, distiller, gradients
from support.term_cases import one_image, shares
from support.tiny_detector import tiny_detector

Options = dict[str, Any]
CASES: list[tuple[str, Options]] = [
    ("rank_mimicking", {}),
    ("rank_mimicking", {"rank_by": "both", "space": "prob", "temperature": 2.0}),
    ("rank_mimicking", {"rank_by": "localization"}),
    ("rank_mimicking", {"detector_score": True}),
    ("prediction_guided", {}),
    ("prediction_guided", {"form": "l2norm", "space": "logit"}),
    ("prediction_guided", {"form": "square", "detach_prediction": True}),
    ("soft_label", {}),
    ("soft_label", {"form": "softmax", "temperature": 3.0}),
    ("soft_label", {"form": "modulated", "where": "all"}),
    ("hint", {}),
    ("hint", {"where": "positive"}),
    ("hint", {"where": "box"}),
]
EACH = pytest.mark.parametrize(("name", "options"), CASES, ids=[f"{name}-{options}" for name, options in CASES])


@EACH
@pytest.mark.parametrize("head", ["atss", "retinanet"])
def test_zero_for_a_student_that_equals_its_teacher(name: str, options: Options, head: HeadName) -> None:
    student = confident(tiny_detector(head))
    learner = distiller(student, copy.deepcopy(student), {name: options})
    loss = learner.compare(*batch([0, 1, 2], [2, 1])).terms[name]
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert all(gradient.abs().max() < 1e-4 for gradient in gradients(learner.student, {name: loss}).values())


@EACH
def test_not_zero_for_another_teacher_whom_it_leaves_alone(name: str, options: Options) -> None:
    student, teacher = tiny_detector(), confident(tiny_detector(seed=1, channels=24))
    learner = distiller(student, teacher, {name: options})
    loss = learner.compare(*batch([0, 1, 2], [2, 1])).terms[name]
    assert loss.item() > 0
    assert gradients(learner, {name: loss})
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in teacher.parameters())


@EACH
def test_every_parameter_gets_a_gradient_without_objects(name: str, options: Options) -> None:
    learner = distiller(tiny_detector(), tiny_detector(seed=1, channels=24), {name: options}).train()
    loss = learner(*batch([], []))
    found = gradients(learner, loss)
    assert set(found) == {key for key, _ in learner.named_parameters()}
    assert all(gradient.isfinite().all() for gradient in found.values())
    if name != "prediction_guided" and options.get("where", "all") != "all":
        assert loss[name] == 0


@EACH
def test_bfloat16(name: str, options: Options) -> None:
    learner = distiller(tiny_detector(), confident(tiny_detector(seed=1, channels=24)), {name: options})
    example = batch([0, 1, 2], [2, 1])
    full = learner.compare(*example).terms[name]
    with torch.autocast("cpu", torch.bfloat16):
        half = learner.compare(*example).terms[name]
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(full.item(), rel=0.1)
    assert all(gradient.isfinite().all() for gradient in gradients(learner, {name: half}).values())


@EACH
def test_one_image_in_training_mode(name: str, options: Options) -> None:
    learner = distiller(tiny_detector(), tiny_detector(seed=1), {name: options}).train()
    assert learner(*batch([1], padded=False))[name].isfinite()


@EACH
def test_shares_of_processes_add_up_to_the_joined_batch(name: str, options: Options) -> None:
    student, teacher = confident(tiny_detector("atss")), confident(tiny_detector("atss", seed=1), seed=6)
    joined = distiller(student, teacher, {name: options}).terms[name]
    images, targets = batch([0, 1], [2, 1, 0])
    pixels = student.input.normalization(images, targets.sizes)
    own, other = student(pixels), teacher(pixels)
    case = own, other, student.match(own, targets)[own.final], targets
    whole = joined(View(*case))
    parts = [one_image(case, student, image) for image in range(2)]
    single: list[dict[str, Tensor]] = shares(lambda process, reduce_sum: joined(View(*parts[process], reduce_sum)), 2)
    for part, value in whole.items():
        assert value > 0
        torch.testing.assert_close(single[0][part] + single[1][part], value, rtol=1e-5, atol=0)
