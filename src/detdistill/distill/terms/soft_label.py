"""Soft labels, candidate by candidate (Hinton et al., 2015, arXiv 1503.02531)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.output import Predictions
from detdistill.core.structures import BACKGROUND
from detdistill.distill.term import OPINIONS, REGIONS, SCORES, Method, Pair, Source, Term, check_temperature, needs_of
from detdistill.distill.view import Need, View
from detdistill.losses.distribution import distribution_kl
from detdistill.losses.soft_labels import binary_kl, modulated_binary_cross_entropy
from detdistill.teachers.opinions import SHARPNESS


class SoftLabel(Term):
    """The student learns the teacher's class probabilities, each candidate on its own.

    Args:
        form: `binary`, the KL divergence of each class's yes or no, the natural one for sigmoid heads; `softmax`, that
            of the distribution over classes, and background where the heads have it, averaged over them as in LD's
            code; `modulated`, binary cross entropy times |p_teacher − p_student|, as in BCKD and CrossKD.
        where: the student's positives, which rank mimicking compares too, or all candidates that are not ignored.
        temperature: T, above 0, of `binary` and `softmax`: logits are divided by it, the loss multiplied by T².
        source: of the teacher's probabilities (an extension), see `Source`. By `opinion` they follow the boxes: the
            student learns to score a candidate by how well its box overlaps with a box of the teacher.
        sharpness: power of the IoU in an opinion, above 0.

    Raises:
        DetdistillError: the temperature or the sharpness is not above 0.
    """

    method = Method(
        paper="Hinton et al., 2015, arXiv 1503.02531",
        compares="class probabilities, candidate by candidate",
        needs="class predictions of the same candidates, or boxes",
        teacher=(SCORES, OPINIONS),
        student=SCORES,
        weights={"retinanet": 10.0, "fcos": 10.0, "atss": 10.0, "gfl": 10.0},
        sources="LD's configurations, for form softmax with temperature 2 (RetinaNet 8)",
    )

    def __init__(
        self,
        *,
        form: Literal["binary", "softmax", "modulated"] = "binary",
        where: Literal["positive", "all"] = "positive",
        temperature: float = 1.0,
        source: Source = "auto",
        sharpness: float = SHARPNESS,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        self.form, self.where, self.temperature = form, where, temperature
        self._needs = needs_of(source, sharpness=sharpness, everywhere=where == "all")

    @property
    def needs(self) -> tuple[Need, ...]:
        """Scores of the same candidates, or opinions."""
        return self._needs

    @property
    def region_need(self) -> Need | None:
        """Shared proposals, unless the teacher's probabilities are its opinions."""
        return Need(REGIONS) if Need(SCORES) in self._needs else None

    def bind(self, pair: Pair) -> list[str]:
        """Raises `DetdistillError` for a softmax over a single class, which is 1 whatever the logits."""
        if self.form == "softmax" and pair.student_output.predictions.class_logits.shape[-1] == 1:
            raise DetdistillError(
                "form softmax compares classes with each other, but teacher and student have only one class in common; "
                "choose form binary or modulated"
            )
        return []

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification`, over the number of positives of objects that the teacher has a class for."""
        student, teacher = view.student, view.teacher
        # Of an object that the teacher has no class for it says nothing.
        positive = view.assignment.labels(view.targets) >= 0
        chosen = positive if self.where == "positive" else positive | (view.assignment.matched == BACKGROUND)
        losses = self._loss(*(self._logits(side.predictions)[chosen] for side in (student, teacher)))
        return {"classification": losses.sum() / view.reduce_sum(positive.sum().float()).clamp(min=1)}

    def _logits(self, predictions: Predictions) -> Tensor:
        """`(N, P, D)` of the classes, and of background for a softmax over all of a head that has one."""
        is_whole = self.form == "softmax" and predictions.activation == "softmax"
        return predictions.logits if is_whole else predictions.class_logits

    def _loss(self, student: Tensor, teacher: Tensor) -> Tensor:
        if self.form == "softmax":
            return distribution_kl(student, teacher, self.temperature)
        if self.form == "modulated":
            return modulated_binary_cross_entropy(student, teacher)
        return binary_kl(student, teacher, self.temperature)
