"""What a term compares, and how it comes about."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from detdistill.core.offers import Offer
from detdistill.core.output import Output
from detdistill.core.structures import Assignment, Matches, ReduceSum, Targets, single_process
from detdistill.teachers.opinions import SHARPNESS
from detdistill.teachers.teacher import Guidance


@dataclass(frozen=True, eq=False)
class View:
    """A batch as a term sees it: two outputs that agree in candidates and classes, and in cells where they have maps.

    Attributes:
        student: the student's output.
        teacher: the teacher's, without gradient.
        assignment: of these candidates to objects, by the student's rule.
        targets: the objects; labels are positions among the shared classes, `BACKGROUND` for an object that the
            teacher has no class for.
        reduce_sum: sums counts over processes.
        by_opinion: the teacher's scores are its opinions of the student's boxes, and its boxes are those that it
            predicts there, NaN where there are none. In views that were not made for all candidates, other candidates'
            scores than those of positives are NaN.
        given: `(N, P)` bool, candidates that are objects' own boxes, which no inference sees; None for none.
    """

    student: Output
    teacher: Output
    assignment: Assignment
    targets: Targets
    reduce_sum: ReduceSum = single_process
    by_opinion: bool = False
    given: Tensor | None = None


@dataclass(frozen=True)
class Need:
    """What a term must be able to read off its views.

    Attributes:
        offers: of the teacher.
        sharpness: of opinions, see `opinions`.
        everywhere: opinions of all candidates, not only of the positives.
    """

    offers: frozenset[Offer]
    sharpness: float = SHARPNESS
    everywhere: bool = False


class Correspondence(Protocol):
    """A way to bring two detectors together: the same grid, shared proposals, the teacher's opinions of boxes."""

    @property
    def offers(self) -> frozenset[Offer]:
        """What a term may read off its views."""

    def serving(self, need: Need) -> Correspondence:
        """The same way, with views as a term needs them, whose offers are among its own."""

    def __call__(
        self,
        student: Output,
        guidance: Guidance,
        matches: Matches,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> View:
        """Make the view of a batch.

        Args:
            student: as the student returned it.
            guidance: as the teacher returned it.
            matches: of the student's candidates, by stage.
            targets: with the student's labels.
            reduce_sum: sums counts over processes.
        """

    def notes(self, student: Output, guidance: Guidance) -> list[str]:
        """What a user should know about what is compared, a line each, from an example."""
