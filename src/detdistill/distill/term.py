"""A term: one distillation method as a loss between two detectors' outputs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.output import Output
from detdistill.core.structures import Assignment, ReduceSum, Targets, single_process
from detdistill.detectors.base import Detector


@dataclass(frozen=True)
class Method:
    """What the documentation says of a term.

    Attributes:
        paper: authors, title, where and when.
        compares: what of the two detectors is compared, in a few words.
        needs: what both must have.
        detectors: heads that it works with.
        weights: published weight by head, with `sources`; none for heads without an official configuration.
        sources: where the weights come from.
        ratio: of the automatic weight, where a recipe does not say; see `Weight`.
        reported: gains in AP on COCO's validation set that others could verify, from baseline to student, and where.
    """

    paper: str
    compares: str
    needs: str = "nothing beyond predictions"
    detectors: tuple[str, ...] = ("retinanet", "fcos", "atss", "gfl", "gflv2", "vfnet")
    weights: Mapping[str, float] = field(default_factory=dict)
    sources: str = ""
    ratio: float = 0.5
    reported: str = ""


@dataclass(frozen=True, eq=False)
class Pair:
    """What a term may look at when it is bound: both detectors, and what they return for an example.

    Attributes:
        student: is trained.
        teacher: is not.
        student_output: aligned with the teacher's, see `Alignment`.
        teacher_output: aligned with the student's.
    """

    student: Detector
    teacher: Detector
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
    def forward(
        self,
        student: Output,
        teacher: Output,
        assignment: Assignment,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> dict[str, Tensor]:
        """The loss of a batch, in one or a few named parts that add up, each a scalar.

        Each part is this process's sum over the global normaliser, as the detection loss is. Without objects it is 0
        but still depends on the student, so that every parameter gets a gradient.

        Args:
            student: what the student returned.
            teacher: what the teacher returned, without gradient; the same levels, cells, candidates and classes.
            assignment: of the student's candidates to objects.
            targets: the objects; a label is `BACKGROUND` where the teacher has no such class.
            reduce_sum: sums counts over processes.
        """


def check_temperature(temperature: float) -> None:
    """Raises `DetdistillError` for a temperature that is not above 0."""
    if not temperature > 0:
        raise DetdistillError(f"temperature must be above 0, not {temperature}")
