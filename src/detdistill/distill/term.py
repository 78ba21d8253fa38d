"""A term: one distillation method as a loss between two detectors' outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.offers import Offer
from detdistill.core.output import Output
from detdistill.detectors.base import Detector
from detdistill.distill.view import Need, View
from detdistill.distill.weighting import USUAL_RATIO
from detdistill.teachers.teacher import Teacher

GRID: frozenset[Offer] = frozenset({"features", "grid"})
FEATURES: frozenset[Offer] = frozenset({"features"})
SCORES: frozenset[Offer] = frozenset({"grid"})
OPINIONS: frozenset[Offer] = frozenset({"opinions"})
REGIONS: frozenset[Offer] = frozenset({"rois"})

Source = Literal["auto", "grid", "opinion"]
"""Where a teacher's scores of a candidate come from.

`grid`: its own score of the same cell and anchor. `opinion`: its boxes, by their overlap with the student's box; see
`teachers/opinions.py`. `auto`: the grid of a teacher that has cells in common with the student, else opinions.
"""


@dataclass(frozen=True)
class Method:
    """What the documentation says of a term.

    Attributes:
        paper: authors, title, where and when.
        compares: what of the two detectors is compared, in a few words.
        needs: what both must have, in words.
        teacher: what the teacher must offer: one of these sets; the first that it has is used, unless an option of the
            term names another one.
        student: what the student must offer.
        weights: published weight by the student's `kind`, with `sources`; none without an official configuration.
        sources: where the weights come from.
        ratio: of the automatic weight, where a recipe does not say; see `Weight`.
        opinion_ratio: the same where the term works by opinion.
        reported: gains in AP on COCO's validation set that others could verify, from baseline to student, and where.
    """

    paper: str
    compares: str
    needs: str = "nothing beyond predictions"
    teacher: tuple[frozenset[Offer], ...] = (GRID,)
    student: frozenset[Offer] = GRID
    weights: Mapping[str, float] = field(default_factory=dict)
    sources: str = ""
    ratio: float = USUAL_RATIO
    opinion_ratio: float = USUAL_RATIO
    reported: str = ""

    def missing(self, student: frozenset[Offer], teacher: frozenset[Offer]) -> str:
        """What a student and a teacher with these offers lack for the method, in words; empty if nothing."""
        return missing(self.student - student, tuple(each - teacher for each in self.teacher))


def missing(student: frozenset[Offer], teacher: Sequence[frozenset[Offer]]) -> str:
    """What is missing, in words; empty if nothing.

    Args:
        student: what the student lacks.
        teacher: what the teacher lacks for each of several ways, one of which is enough.
    """
    words = [f"the student offers no {_named(student)}"] if student else []
    if all(teacher):
        words.append(f"the teacher offers no {' and no '.join(dict.fromkeys(map(_named, teacher)))}")
    return "; ".join(words)


def _named(offers: frozenset[Offer]) -> str:
    return ", no ".join(sorted(offers))


@dataclass(frozen=True, eq=False)
class Pair:
    """What a term may look at when it is bound: both detectors, and what they return for an example.

    Attributes:
        student: is trained.
        teacher: is not.
        student_output: as a `View` has it.
        teacher_output: as a `View` has it.
        ratio: of the size of the teacher's images to the student's.
    """

    student: Detector
    teacher: Teacher
    student_output: Output
    teacher_output: Output
    ratio: float = 1.0


class Term(nn.Module, ABC):
    """One distillation method. Its keyword arguments are the method's options, its parameters the adapters.

    Attributes:
        method: what the documentation says of it.
    """

    method: ClassVar[Method]

    @property
    def needs(self) -> tuple[Need, ...]:
        """What its views must have: one of these, the first that can be had."""
        return tuple(Need(offers) for offers in self.method.teacher)

    @property
    def region_need(self) -> Need | None:
        """What it reads of proposals that both second stages read, beside its other views; None for nothing."""
        return None

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


def needs_of(
    source: Source, *, sharpness: float, everywhere: bool = False, grid: frozenset[Offer] = SCORES
) -> tuple[Need, ...]:
    """What a term needs that compares class scores of a given source.

    Args:
        source: as a recipe names it.
        sharpness: of opinions, above 0.
        everywhere: it reads all candidates, not only the positives.
        grid: what it reads of a teacher with the same cells.

    Raises:
        DetdistillError: the sharpness is not above 0.
    """
    if not sharpness > 0:
        raise DetdistillError(f"sharpness must be above 0, not {sharpness}")
    same_cells, opinion = Need(grid), Need(OPINIONS, sharpness, everywhere)
    return {"auto": (same_cells, opinion), "grid": (same_cells,), "opinion": (opinion,)}[source]
