"""What a teacher gets of each image, beside what the student reads."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from detdistill.core.teacher_size import SAME_SIZE
from detdistill.data.stored_detections import BoxSource


@dataclass(frozen=True)
class TeacherInputs:
    """What a training loader adds to each image for a teacher; by default nothing.

    Attributes:
        stored: what was predicted beforehand; it comes with the targets, moved as the objects.
        ratio: of the teacher's image size to the student's. With another one than 1 its images come with the targets.
    """

    stored: BoxSource | None = None
    ratio: Fraction = SAME_SIZE


NOTHING = TeacherInputs()
"""For students without a teacher, and teachers that read the student's images."""
