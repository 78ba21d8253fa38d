from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.modules import buffers_kept
from detdistill.detectors.dense.choices import HeadName
from detdistill.distill.distiller import Distiller
from detdistill.distill.methods import supported_heads
from detdistill.distill.term import Pair, Term
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.binary_classification import BinaryClassification
from detdistill.distill.terms.channel_wise import ChannelWise
from detdistill.distill.terms.chen import Chen
from detdistill.distill.terms.decoupled import Decoupled
from detdistill.distill.terms.fine_grained import FineGrained
from detdistill.distill.terms.focal_global import FocalGlobal
from detdistill.distill.terms.general_instance import GeneralInstance
from detdistill.distill.terms.localization import Localization
from detdistill.distill.terms.mimic import Mimic
from detdistill.distill.terms.pearson import Pearson
from detdistill.distill.terms.task_adaptive import TaskAdaptive
from detdistill.distill.view import View
from detdistill.teachers.detector_teacher import DetectorTeacher
from support.pairs import confident
from support.term_cases import batch, one_image, outputs, shares
from support.tiny_detector import tiny_detector

OPTIONS = {"cross_head": {"position": 1}}
"""The small detectors' towers have one convolution."""
EVERY_HEAD = [(name, head) for name in TERMS for head in supported_heads(TERMS[name].method)]


def distiller(name: str, head: str) -> Distiller:
    """Of two detectors that differ in their predictions by more than rounding."""
    student, teacher = tiny_detector(cast(HeadName, head)), confident(tiny_detector(cast(HeadName, head), seed=1))
    return Distiller(student, teacher, {name: TERMS[name](**OPTIONS.get(name, {}))})


def finite(gradients: Iterator[Tensor | None]) -> bool:
    return all(gradient is None or bool(gradient.isfinite().all()) for gradient in gradients)


@pytest.mark.parametrize(("name", "head"), EVERY_HEAD)
def test_a_step_with_every_head(name: str, head: str) -> None:
    """An optimiser step towards the teacher lowers the term, without objects nothing breaks."""
    learner = distiller(name, head).train()
    images, targets = batch(2)
    with buffers_kept(learner.terms):  # the same masks before and after the step
        loss = learner.compare(images, targets).terms[name]
    torch.autograd.backward(loss)
    assert all(parameter.grad is not None for parameter in learner.terms.parameters())
    assert finite(parameter.grad for parameter in learner.parameters())
    # A step of one length, whatever the gradient's: with a short one, rounding would outweigh what it gains.
    length = float(torch.nn.utils.clip_grad_norm_(learner.parameters(), 1.0))
    torch.optim.SGD(learner.parameters(), lr=1e-3 / min(max(length, 1e-9), 1.0)).step()
    after = learner.compare(images, targets).terms[name]
    assert after.isfinite()
    # Bounded regression is no continuous loss: a candidate joins it as soon as the teacher's box is better.
    assert after < loss or loss == 0 or name == "bounded_regression"

    learner.zero_grad()
    images, targets = batch(1, objects_per_image=0)
    empty = learner.eval().compare(images, targets).terms[name]
    assert empty.isfinite()
    torch.autograd.backward(empty)
    assert all(parameter.grad is not None for parameter in learner.terms.parameters())
    assert finite(parameter.grad for parameter in learner.parameters())


@pytest.mark.parametrize("name", ["chen", "fine_grained", "task_adaptive", "general_instance"])
def test_a_student_with_more_anchors_than_the_teacher(name: str) -> None:
    """These look at priors: those of the anchors that cells stand for are not those of a cell's first anchor."""
    student, teacher = tiny_detector("retinanet"), confident(tiny_detector("gfl", seed=1))
    learner = Distiller(student, teacher, {name: TERMS[name]()}).train()
    images, targets = batch(2)
    loss = learner.compare(images, targets).terms[name]
    assert loss.isfinite()
    assert loss > 0
    torch.autograd.backward(loss)
    assert finite(parameter.grad for parameter in learner.parameters())


@pytest.mark.parametrize("name", TERMS)
def test_half_precision(name: str) -> None:
    learner = distiller(name, "gfl")
    images, targets = batch(1)
    exact = learner.compare(images, targets).terms[name]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = learner.compare(images, targets).terms[name]
    assert rounded.dtype == torch.float32
    # Instances and regions are chosen by rounded scores; that leaves the size of the loss.
    torch.testing.assert_close(rounded, exact, rtol=0.2, atol=1e-3)


OWN_STATISTICS = ("cross_head", "masked_generative", "pearson")
"""Their statistics, or masks, are of each process's own images."""
IN_PARTS: dict[str, Term] = {
    **{name: kind() for name, kind in TERMS.items() if name not in OWN_STATISTICS},
    "fine grained, elements": FineGrained(normalizer="elements"),
    "decoupled, classes": Decoupled(classification=2),
    "general instance, largest": GeneralInstance(score="largest_difference"),
    "channel wise, classes": ChannelWise(compare="class"),
    "binary classification, all": BinaryClassification(levels="all"),
}


@pytest.mark.parametrize(
    ("name", "head"),
    [
        (name, head)
        for name, term in IN_PARTS.items()
        for head in ("retinanet", "gfl")
        if head in supported_heads(term.method)
    ],
)
def test_the_shares_of_two_processes_add_up(name: str, head: HeadName) -> None:
    term = IN_PARTS[name]
    student, teacher, case = outputs(head, 2)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        term.bind(Pair(student, DetectorTeacher(teacher), case[0], case[1]))
    together = term(View(*case))
    assert sum(part.item() for part in together.values()) > 0
    parts = shares(lambda image, reduce_sum: cast(Any, term)(View(*one_image(case, student, image), reduce_sum)), 2)
    for key, value in together.items():
        torch.testing.assert_close(parts[0][key] + parts[1][key], value, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "term",
    [
        Mimic(adapter="auto"),
        FineGrained(adapter="auto"),
        TaskAdaptive(),
        Decoupled(adapter="auto", classification=2),
        GeneralInstance(),
        GeneralInstance(score="largest_difference"),
        Chen(adapter="auto"),
        Localization(),
        FocalGlobal(),
        Pearson(),
        ChannelWise(),
        BinaryClassification(),
    ],
    ids=lambda term: type(term).__name__,
)
def test_who_is_like_the_teacher_has_nothing_to_learn(term: Term) -> None:
    """Except Chen's weighted cross entropy, which is at rest nowhere near the teacher."""
    student, _, (own, _, assignment, targets) = outputs("gfl", 2)
    term.bind(Pair(student, DetectorTeacher(student), own, own))
    parts = term(View(own, own, assignment, targets))
    parts.pop("classification") if isinstance(term, Chen) else None
    for part in parts.values():
        assert part.item() == pytest.approx(0, abs=1e-6)
        gradients = torch.autograd.grad(part, own.features.maps, retain_graph=True, allow_unused=True)
        assert all(gradient is None or gradient.abs().max() < 1e-6 for gradient in gradients)


@pytest.mark.parametrize("name", ["chen", "task_adaptive"])
def test_objects_that_the_teacher_has_no_class_for_teach_nothing(name: str) -> None:
    student, teacher, (own, other, assignment, targets) = outputs("gfl", 1, objects_per_image=2)
    term = TERMS[name]()
    term.bind(Pair(student, DetectorTeacher(teacher), own, other))
    unknown = replace(targets, labels=torch.full_like(targets.labels, -1))
    parts = term(View(own, other, assignment, unknown))
    assert parts["classification"].item() == parts["regression"].item() == 0
    assert term(View(own, other, assignment, targets))["classification"].item() > 0


@pytest.mark.parametrize(
    "name", [name for name, kind in TERMS.items() if "temperature" in inspect.signature(kind).parameters]
)
@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_is_above_0(name: str, temperature: float) -> None:
    with pytest.raises(DetdistillError, match=f"temperature must be above 0, not {temperature}"):
        cast(Any, TERMS[name])(temperature=temperature)


def test_points_are_refused_where_anchors_are_needed() -> None:
    with pytest.raises(DetdistillError, match="fine_grained cannot be used: the student offers no anchors"):
        distiller("fine_grained", "fcos")
