"""The correspondence of a student's boxes and a teacher's opinions of them, for a teacher of any kind."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from detdistill.core.offers import Offer
from detdistill.core.output import Features, GivenBoxes, Output, Predictions
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Matches, ReduceSum, Targets, single_process
from detdistill.distill.class_map import ClassMap
from detdistill.distill.view import Need, View
from detdistill.teachers.opinions import SHARPNESS, SURE_FLOOR, Opinions
from detdistill.teachers.teacher import Guidance

EPSILON = 1e-6
"""Least and, from 1, largest opinion whose logit is taken."""


@dataclass(frozen=True)
class OpinionCorrespondence:
    """The student's candidates, and what the teacher thinks of the student's boxes there.

    Objects of which the teacher has no opinion, because it predicts no overlapping box of their class, have the label
    `BACKGROUND` in the view, like objects of a class that it does not have: terms leave them out. Where the teacher's
    floor is above 0.05, background candidates of which its best opinion is below the floor are `IGNORED`: what lies
    below the floor is unknown.

    Attributes:
        classes: which classes mean the same.
        sharpness: of opinions.
        everywhere: opinions of all candidates; otherwise of the positives.
    """

    classes: ClassMap
    sharpness: float = SHARPNESS
    everywhere: bool = False

    offers: ClassVar[frozenset[Offer]] = frozenset({"opinions", "boxes"})

    def serving(self, need: Need) -> Self:
        """The same with a term's sharpness and candidates."""
        return replace(self, sharpness=need.sharpness, everywhere=need.everywhere)

    def __call__(
        self,
        student: Output,
        guidance: Guidance,
        matches: Matches,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> View:
        """Ask for opinions of one batch; arguments as of `Correspondence`."""
        assignment = matches[student.final]
        if not self.classes.is_identity:
            own = student.predictions
            student = student.with_predictions(own.with_class_logits(self.classes.of_student(own.class_logits)))
            targets = replace(targets, labels=self.classes.labels(targets.labels))
        index = _all_of(assignment.matched) if self.everywhere else assignment.positive
        found = self._opinions(student.predictions, guidance, index)
        targets = replace(targets, labels=_known_labels(found.scores, index, assignment, targets))
        floor = max((each.floor for each in guidance.set_of_boxes), default=0.0)
        if self.everywhere and floor > SURE_FLOOR:
            unknown = (found.scores.amax(dim=1) < floor).view_as(assignment.matched)
            assignment = Assignment(
                assignment.matched.masked_fill(unknown & (assignment.matched == BACKGROUND), IGNORED)
            )
        predictions = _as_predictions(student.predictions, index, found)
        teacher = Output(Features((), ()), {student.final: predictions}, student.final)
        return View(student, teacher, assignment, targets, reduce_sum, by_opinion=True)

    def notes(self, student: Output, guidance: Guidance) -> list[str]:  # noqa: ARG002
        """What a user should know about the teacher's boxes, a line each."""
        return ["opinions: the student's boxes are scored by their overlap with the teacher's boxes"]

    def _opinions(self, own: Predictions, guidance: Guidance, index: tuple[Tensor, Tensor]) -> Opinions:
        found = guidance.opinions(own.boxes(index).detach(), index[0], self.sharpness)
        return replace(found, scores=self.classes.of_teacher(found.scores))


def left_out(view: View, matched: Tensor, targets: Targets) -> list[str]:
    """What a view by opinion leaves out of a batch, a line each.

    Args:
        view: of the batch.
        matched: `(N, P)` the student's matches.
        targets: the objects.
    """
    lines = []
    listed = torch.zeros_like(targets.labels, dtype=torch.bool)
    listed[matched[matched >= 0]] = True
    silent = int((listed & (view.targets.labels < 0)).sum())
    if silent:
        lines.append(f"no opinion of {silent} of {int(listed.sum())} objects in the first batch; they are left out")
    background = matched == BACKGROUND
    unknown = int((background & (view.assignment.matched == IGNORED)).sum())
    if unknown:
        lines.append(
            f"{unknown} of {int(background.sum())} background candidates of the first batch are left out: the "
            "teacher's opinion of them is below its floor, which means unknown"
        )
    return lines


def _all_of(matched: Tensor) -> tuple[Tensor, Tensor]:
    """Image and candidate of all candidates `(N, P)`."""
    images, candidates = matched.shape
    index = torch.arange(images * candidates, device=matched.device)
    return index // candidates, index % candidates


def _known_labels(scores: Tensor, index: tuple[Tensor, Tensor], assignment: Assignment, targets: Targets) -> Tensor:
    """`(G,)` the objects' labels, `BACKGROUND` where no candidate of an object has an opinion of its class above 0."""
    objects = assignment.matched[index]
    labels = torch.cat((targets.labels, targets.labels.new_full((1,), BACKGROUND)))[objects.clamp(min=-1)]
    has_opinion = (objects >= 0) & (labels >= 0) & (scores.gather(1, labels.clamp(min=0)[:, None]).squeeze(1) > 0)
    known = torch.zeros_like(targets.labels, dtype=torch.bool)
    known[objects[has_opinion]] = True
    return torch.where(known, targets.labels, BACKGROUND)


def _as_predictions(own: Predictions, index: tuple[Tensor, Tensor], found: Opinions) -> Predictions:
    """Opinions as predictions for the student's candidates, NaN where there is no opinion."""
    shape = own.logits.shape[:2]
    logits = found.scores.new_full((*shape, found.scores.shape[1]), torch.nan)
    boxes = found.boxes.new_full((*shape, 4), torch.nan)
    logits[index], boxes[index] = found.scores.logit(EPSILON), found.boxes
    return Predictions(own.candidates, logits, boxes, GivenBoxes())
