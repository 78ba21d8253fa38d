"""A term: one distillation method as a loss between two detectors' outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.offers import Offer
from detdistill.core.output import Output
from detdistill.detectors.base import Detector
from detdistill.distill.view import View
from detdistill.teachers.teacher import Teacher

GRID: frozenset[Offer] = frozenset({"features", "grid"})


@dataclass(frozen=True)
class Method:
    """What the documentation says of a term.

    Attributes:
        paper: authors, title, where and when.
        compares: what of the two detectors is compared, in a few words.
        needs: what both must have, in words.
        teacher: what the teacher must offer.
        student: what the student must offer.
        weights: published weight by the student's `kind`, with `sources`; none without an official configuration.
        sources: where the weights come from.
        ratio: of the automatic weight, where a recipe does not say; see `Weight`.
        reported: gains in AP on COCO's validation set that others could verify, from baseline to student, and where.
    """

    paper: str
    compares: str
    needs: str = "nothing beyond predictions"
    teacher: frozenset[Offer] = GRID
    student: frozenset[Offer] = GRID
    weights: Mapping[str, float] = field(default_factory=dict)
    sources: str = ""
    ratio: float = 0.5
    reported: str = ""

    def missing(self, student: frozenset[Offer], teacher: frozenset[Offer]) -> str:
        """What a student and a teacher with these offers lack for the method, in words; empty if nothing."""
        sides = (("student", self.student - student), ("teacher", self.teacher - teacher))
        return "; ".join(f"the {side} offers no {', no '.join(sorted(lacking))}" for side, lacking in sides if lacking)


@dataclass(frozen=True, eq=False)
class Pair:
    """What a term may look at when it is bound: both detectors, and what they return for an example.

    Attributes:
        student: is trained.
        teacher: is not.
        student_output: as a `View` has it.
        teacher_output: as a `View` has it.
    """

    student: Detector
    teacher: Teacher
    student_output: Output
    teacher_output: Output


class Term(nn.Module, ABC):
    """One distillation method. Its keyword arguments are the method's options, its parameters the adapters.

    Attributes:
        method: what the documentation says of it.
    """

    method: ClassVar[Method]

    def bind(self, pair: Pair) -> list[str]:  # noqa: ARG002 (most terms need no more than what forward gets)
        """Builds adapters for a pair of detectors. Called once, before anything is trained.

        Returns:
            What was adapted, in plain words, a line each.

        Raises:
            DetdistillError: the pair cannot be used; the message says why and what would make it possible.
        """
        return []

    @abstractmethod
    def forward(self, view: View) -> dict[str, Tensor]:
        """The loss of a batch, in one or a few named parts that add up, each a scalar.

        Each part is this process's sum over the global normaliser, as the detection loss is. Without objects it is 0
        but still depends on the student, so that every parameter gets a gradient.
        """


def check_temperature(temperature: float) -> None:
    """Raises `DetdistillError` for a temperature that is not above 0."""
    if not temperature > 0:
        raise DetdistillError(f"temperature must be above 0, not {temperature}")
