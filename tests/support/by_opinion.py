"""A small grid whose candidates a teacher with a few boxes judges: IoUs of 1, 1/3, 1/3 and 1/7 with the first prior."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detdistill.core.output import DENSE
from detdistill.core.structures import Assignment, Targets, TeacherBoxes
from detdistill.distill.class_map import ClassMap, identical_classes
from detdistill.distill.opinion_correspondence import OpinionCorrespondence
from detdistill.distill.view import Need, View
from detdistill.teachers.teacher import Guidance
from support.term_cases import grid, output

GRID = grid((2, 2))
FIRST = (0.0, 0.0, 16.0, 16.0)
LAST = (8.0, 8.0, 24.0, 24.0)
CLASSES = ("cat", "dog")


def predicted(*found: tuple[Sequence[float], int, float], floor: float = 0.0, classes: int = 2) -> TeacherBoxes:
    """Boxes with class and score."""
    probabilities = torch.zeros(len(found), classes)
    for row, (_, label, score) in enumerate(found):
        probabilities[row, label] = score
    boxes = torch.tensor([box for box, _, _ in found], dtype=torch.float32).view(-1, 4)
    return TeacherBoxes(boxes, torch.tensor([label for _, label, _ in found], dtype=torch.int64), probabilities, floor)


def view_of(
    logits: Tensor,
    found: TeacherBoxes,
    matched: Sequence[int],
    targets: Targets,
    *,
    need: Need | None = None,
    teacher_classes: tuple[str, ...] = CLASSES,
) -> View:
    """One image's view, of a student whose boxes are the four priors."""
    classes = identical_classes(CLASSES) if teacher_classes == CLASSES else ClassMap(CLASSES, teacher_classes)
    way = OpinionCorrespondence(classes)
    student = output(GRID, [torch.zeros(1, 1, 2, 2)], logits)
    return (way if need is None else way.serving(need))(
        student, Guidance(boxes=(found,)), {DENSE: Assignment(torch.tensor([matched]))}, targets
    )
