"""Candidates and cells in ignored boxes are neither objects nor background, in every term that tells them apart."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.structures import IGNORED, Targets
from detdistill.detectors.dense.choices import HeadName
from detdistill.distill.distiller import Distiller
from detdistill.distill.methods import supported_heads
from detdistill.distill.term import Term
from detdistill.distill.terms import TERMS
from detdistill.distill.terms.binary_classification import BinaryClassification
from detdistill.distill.terms.cross_head import CrossHead
from detdistill.distill.terms.decoupled import Decoupled
from detdistill.distill.terms.focal_global import FocalGlobal
from detdistill.distill.terms.localization import Localization
from detdistill.distill.terms.rank_mimicking import RankMimicking
from detdistill.distill.terms.soft_label import SoftLabel
from support.pairs import confident
from support.term_cases import batch
from support.tiny_detector import tiny_detector

REGION = [64.0, 32.0, 128.0, 96.0]


def crowded(targets: Targets, region: Sequence[float] = REGION) -> Targets:
    """The same with a crowd in the first image."""
    return replace(targets, ignored=torch.tensor([region]), ignored_image=torch.tensor([0]))


def learner_of(name: str, term: Term, head: HeadName) -> Distiller:
    student, teacher = confident(tiny_detector(head)), confident(tiny_detector(head, seed=1), seed=6)
    return Distiller(student, teacher, {name: term})


def gradients(learner: Distiller, targets: Targets) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """The matches of the student's candidates, and the gradients at its logits and regression."""
    images, _ = batch(2)
    compared = learner.compare(images, targets)
    output = compared.output
    sources = (output.predictions.logits, output.predictions.regression)
    found = torch.autograd.grad(compared.terms["term"], sources, allow_unused=True, retain_graph=True)
    return learner.student.match(output, targets)[output.final].matched, found


@pytest.mark.parametrize(
    "term",
    [
        SoftLabel(where="all"),
        BinaryClassification(levels="all"),
        Decoupled(classification=2),
        Localization(),
        RankMimicking(candidates="topk", k=50),
    ],
    ids=lambda term: type(term).__name__,
)
def test_candidates_in_ignored_boxes_learn_nothing(term: Term) -> None:
    """Two terms look near objects only: the crowd is everywhere in the image, and the objects stay objects."""
    _, targets = batch(2)
    plain, before = gradients(learner_of("term", term, "gfl"), targets)
    matched, after = gradients(learner_of("term", term, "gfl"), crowded(targets, [0.0, 0.0, 128.0, 96.0]))
    ignored = (matched == IGNORED) & (plain != IGNORED)
    assert ignored.any()
    touched = [one is not None and bool(one[ignored].any()) for one in before]
    assert any(touched), "without the crowd they learn"
    assert not any(one is not None and bool(one[ignored].any()) for one in after)
    assert any(one is not None and bool(one[~ignored].any()) for one in after)


def feature_gradient(term: Callable[[], Term], targets: Targets) -> Tensor:
    """Of the finest map of the student, whose channels are those of the teacher."""
    learner = learner_of("term", term(), "gfl")
    images, _ = batch(2)
    compared = learner.compare(images, targets)
    (gradient,) = torch.autograd.grad(compared.terms["term"], compared.output.features.maps[:1])
    return gradient


@pytest.mark.parametrize(
    "term",
    [
        lambda: Decoupled(foreground=0.0, background=1.0, adapter="auto"),
        lambda: FocalGlobal(attention=0.0, relation=0.0),
    ],
    ids=["decoupled", "focal_global"],
)
def test_cells_in_ignored_boxes_are_no_background(term: Callable[[], Term]) -> None:
    """The region's cells that are in no object: rows 4 to 11, columns 8 to 15 at stride 8."""
    _, targets = batch(2)
    beside = replace(targets, boxes=targets.boxes.clamp(max=24), labels=targets.labels)
    before, after = feature_gradient(term, beside), feature_gradient(term, crowded(beside))
    assert before[0, :, 5:11, 9:15].abs().sum() > 0
    assert not after[0, :, 5:11, 9:15].any()
    assert after[0, :, 5:11, 2:7].any()
    assert after[1].any()


@pytest.mark.parametrize("name", TERMS)
def test_every_term_is_finite_with_ignored_boxes(name: str) -> None:
    kind = TERMS[name]
    head: Any = "gfl" if "gfl" in supported_heads(kind.method) else supported_heads(kind.method)[0]
    term = CrossHead(position=1) if name == "cross_head" else kind()
    images, targets = batch(2)
    learner = learner_of(name, term, head)
    loss = learner.compare(images, crowded(targets)).terms[name]
    assert loss.isfinite()
    torch.autograd.backward(loss)
