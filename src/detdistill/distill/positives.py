"""The student's positives that a teacher has something to say about."""

from __future__ import annotations

from torch import Tensor

from detdistill.structures import Assignment, Targets


def taught_positives(assignment: Assignment, targets: Targets) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """The positives without those of objects that the teacher has no class for, and therefore no box either.

    Args:
        assignment: of the student's candidates.
        targets: a label is `BACKGROUND` where the teacher has no such class.

    Returns:
        Image and prior of the K candidates, each `(K,)`, and the box `(K, 4)` of each one's object, in pixels.
    """
    (image, prior), objects = assignment.positive, assignment.positive_targets
    known = targets.labels[objects] >= 0
    return (image[known], prior[known]), targets.boxes[objects[known]]
