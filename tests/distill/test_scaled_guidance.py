"""Terms compare the same numbers, whatever the size at which the teacher's maps were made."""

from __future__ import annotations

import copy
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.modules import buffers_kept
from detdistill.core.output import Predictions
from detdistill.core.structures import IGNORED, Targets, TeacherBoxes
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.heads.centerness import centerness
from detdistill.distill.distiller import Distiller
from detdistill.distill.methods import supported_heads
from detdistill.distill.scaled_guidance import ImageScales, ScaledCoder, scaled_guidance
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.cross_head import FCOS_CLASS_WEIGHT, CrossHead, with_statistics_of
from detdistill.distill.view import View
from detdistill.losses.soft_labels import modulated_binary_cross_entropy
from detdistill.teachers.opinions import opinions
from detdistill.teachers.teacher import Guidance
from support.other_scale import Rescaled, beside
from support.pairs import batch, confident
from support.tiny_detector import tiny_detector

BY_OPINION = ("rank_mimicking", "soft_label", "binary_classification", "bounded_regression", "chen")
HEADS: tuple[HeadName, ...] = ("retinanet", "gfl", "vfnet")
"""Boxes as deltas of anchors, as distributions in strides, and in pixels."""
LABELS = ([0, 1, 2], [2, 1])


def terms(head: HeadName) -> dict[str, Term]:
    """All that work with a head, also by opinion."""
    options: dict[str, dict[str, Any]] = {"cross_head": {"position": 1}}
    own = {name: kind(**options.get(name, {})) for name, kind in TERMS.items() if head in supported_heads(kind.method)}
    return own | {f"{name} by opinion": TERMS[name](**{"source": "opinion"}) for name in BY_OPINION}


def learner_of(head: HeadName, teacher: Any, chosen: dict[str, Term], ratio: float = 1) -> Distiller:
    return Distiller(tiny_detector(head), teacher, chosen, teacher_ratio=ratio).eval()


def losses(learner: Distiller, images: Tensor, targets: Targets, guidance: Guidance | None = None) -> dict[str, float]:
    """The value of each term."""
    with buffers_kept(learner.terms):  # terms that draw masks draw the same
        found = learner.compare(images, targets, guidance=guidance).terms
        return {name: float(value.detach()) for name, value in found.items()}


@pytest.mark.parametrize("head", HEADS)
def test_a_teacher_at_ratio_1_teaches_as_one_without_a_size(head: HeadName) -> None:
    learner = learner_of(head, confident(tiny_detector(head, seed=1)), terms(head))
    images, targets = batch(*LABELS)
    found = learner.guide(images, targets)
    scaled = scaled_guidance(found, ImageScales.of(targets.sizes, targets.sizes), Fraction(1), (1.0, 1.0))
    plain = losses(learner, images, targets, found)
    assert all(value > 0 for value in plain.values())
    assert losses(learner, images, targets, scaled) == plain


@pytest.mark.parametrize(("head", "factor"), [*((head, 2.0) for head in HEADS), ("gfl", 0.5)])
def test_the_same_maps_on_a_canvas_of_another_size_teach_the_same(head: HeadName, factor: float) -> None:
    """At twice the side, stride 16 is stride 8 of the student: with powers of two not a bit is rounded."""
    images, targets = batch(*LABELS)
    detector = confident(tiny_detector(head, seed=1))
    chosen = {name: term for name, term in terms(head).items() if name != "cross_head"}
    plain = learner_of(head, detector, chosen)
    other = learner_of(head, Rescaled(detector, images, targets, factor), copy.deepcopy(chosen), factor)
    other.terms.load_state_dict(plain.terms.state_dict())
    expected = losses(plain, images, targets)
    assert all(value > 0 for value in expected.values())
    assert losses(other, images, beside(images, targets, factor)) == expected


def test_boxes_and_opinions_are_in_pixels_of_the_student() -> None:
    """The second image is 33 pixels high for the student, 50 for the teacher: its boxes have a ratio of their own."""
    scales = ImageScales.of(torch.tensor([[64, 64], [33, 64]]), torch.tensor([[96, 96], [50, 96]]))
    known = torch.eye(2)[:1]
    theirs = tuple(
        TeacherBoxes(torch.tensor([box]), torch.tensor([0]), known)
        for box in ([15.0, 30.0, 60.0, 90.0], [15.0, 10.0, 60.0, 50.0])
    )
    found = scaled_guidance(Guidance(boxes=theirs), scales, Fraction(3, 2), (1.0, 1.0))
    torch.testing.assert_close(found.set_of_boxes[0].boxes, torch.tensor([[10.0, 20, 40, 60]]))
    torch.testing.assert_close(found.set_of_boxes[1].boxes, torch.tensor([[10.0, 6.6, 40, 33]]))
    asked, image = torch.tensor([[10.0, 20, 40, 60], [10.0, 6.6, 40, 30]]), torch.tensor([0, 1])
    opinion, expected = found.opinions(asked, image), opinions(found.set_of_boxes, asked, image)
    torch.testing.assert_close(opinion.scores, expected.scores)
    torch.testing.assert_close(opinion.boxes, expected.boxes)
    assert opinion.scores[0, 0] == pytest.approx(1.0)


def test_candidates_and_boxes_on_cells_are_scaled() -> None:
    detector = confident(tiny_detector("vfnet"))
    images, targets = batch([0])
    learner = learner_of("vfnet", detector, {})
    own = learner.guide(images, targets)
    scales = ImageScales.of(targets.sizes, targets.sizes * 2)
    scaled = scaled_guidance(own, scales, Fraction(5, 2), (1.0, 1.0)).dense.predictions
    assert scaled.grid.strides[0] == (3.2, 3.2)
    torch.testing.assert_close(scaled.grid.priors, own.dense.predictions.grid.priors / 2.5)
    torch.testing.assert_close(scaled.boxes(), own.dense.predictions.boxes() / 2.5)
    torch.testing.assert_close(scaled.scores(), own.dense.predictions.scores())
    assert isinstance(scaled.coder, ScaledCoder)


def test_cross_head_compares_heads_at_the_levels_that_meet() -> None:
    """A student with half the teacher's strides; FCOS's centerness is that of the student's points in its boxes."""
    student = tiny_detector("fcos", strides=(4, 8, 16))
    teacher = confident(tiny_detector("fcos", seed=1))
    term = CrossHead(position=1)
    learner = Distiller(student, teacher, {"cross_head": term}, teacher_ratio=2).eval()
    images, targets = batch(*LABELS)
    generator = torch.Generator().manual_seed(3)
    shown = beside(images, targets, 2)
    assert shown.teacher_images is not None
    noise = torch.randint(0, 256, shown.teacher_images.images.shape, generator=generator, dtype=torch.uint8)
    shown = replace(shown, teacher_images=replace(shown.teacher_images, images=noise))
    compared = learner.compare(images, shown)
    view = compared.views[0]
    parts = term(view)
    assert compared.terms["cross_head"] == parts["classification"] + parts["box"]
    own, other = view.student.towers, view.teacher.towers
    assert own is not None
    assert other is not None
    assert [level.shape for level in own.class_maps] == [level.shape for level in other.class_maps]
    points = view.student.predictions.grid.centers[view.assignment.positive[1]]
    central = centerness(points, targets.boxes[view.assignment.positive_targets]).sum().clamp(min=1)
    logits = modulated_binary_cross_entropy(crossed(term, view).class_logits, other.predictions.class_logits)
    counts = view.assignment.matched != IGNORED
    expected = FCOS_CLASS_WEIGHT * (logits.sum(dim=-1) * counts).sum() / central
    torch.testing.assert_close(parts["classification"], expected)


def crossed(term: CrossHead, view: View) -> Predictions:
    """What the teacher's head makes of the student's towers."""
    own, other = view.student.towers, view.teacher.towers
    assert own is not None
    assert other is not None
    assert term._head is not None
    return term._head.thing.complete(
        with_statistics_of(other.class_maps, term.class_adapters(own.class_maps)),
        with_statistics_of(other.box_maps, term.box_adapters(own.box_maps)),
    )
