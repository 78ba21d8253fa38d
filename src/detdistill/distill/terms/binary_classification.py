"""BCKD: bridging cross-task protocol inconsistency (Yang et al., ICCV 2023, arXiv 2308.14286)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from detdistill.core.output import Output
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED, Assignment
from detdistill.detectors.dense.heads.dense_head import counted_positives
from detdistill.distill.term import OPINIONS, SCORES, Method, Source, Term, needs_of
from detdistill.distill.view import Need, View
from detdistill.losses.box import giou_loss
from detdistill.losses.soft_labels import modulated_binary_cross_entropy
from detdistill.teachers.opinions import SHARPNESS

BOX_WEIGHT = 4.0


class BinaryClassification(Term):
    """Each class is a question of its own, asked at every candidate; boxes follow where the answers differ.

    Classification: binary cross entropy with the teacher's probability, times |p_teacher − p_student|. Localization: 4
    times 1 − GIoU of the two boxes, weighted by the largest |p_teacher − p_student| of any class (without gradient).
    Both are summed over candidates that are not ignored and divided by the number of positives, an image without any
    counting as one.

    Args:
        levels: all, or, as a side effect of the authors' code, only those on which the batch has a `positive`
            candidate (of this process).
        source: of the teacher's probabilities and boxes (an extension), see `Source`. By `opinion` its box is the one
            that overlaps best, from IoU 0.5 on; candidates without one have no box loss.
        sharpness: power of the IoU in an opinion, above 0.

    Raises:
        DetdistillError: the sharpness is not above 0.
    """

    method = Method(
        paper="Yang et al., ICCV 2023, arXiv 2308.14286",
        compares="class probabilities and boxes of all candidates",
        needs="class predictions and boxes of the same candidates, or boxes",
        teacher=(SCORES, OPINIONS),
        student=SCORES,
        weights={"gfl": 1.0},
        sources="the authors' configuration: classification 1, boxes 4",
        reported="GFL R50 40.1 to 43.2, R34 38.9 to 42.0, R18 35.8 to 38.6, teacher R101 (the authors)",
    )

    def __init__(
        self,
        *,
        levels: Literal["positive", "all"] = "positive",
        source: Source = "auto",
        sharpness: float = SHARPNESS,
    ) -> None:
        super().__init__()
        self.levels = levels
        self._needs = needs_of(source, sharpness=sharpness, everywhere=True)

    @property
    def needs(self) -> tuple[Need, ...]:
        """Scores and boxes of the same candidates, or opinions of all."""
        return self._needs

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification` and `box`."""
        student, teacher = view.student, view.teacher
        own, other = (
            at_least_float32(student.predictions.class_logits),
            at_least_float32(teacher.predictions.class_logits),
        )
        counts = self._counts(student, view.assignment)
        weights = (other.sigmoid() - own.detach().sigmoid()).abs().amax(dim=-1) * counts
        classification = modulated_binary_cross_entropy(own, other).sum(dim=-1)
        positives = view.reduce_sum(counted_positives(view.assignment)).clamp(min=1)
        boxes = teacher.predictions.boxes()
        if view.by_opinion:
            weights = weights * boxes.isfinite().all(dim=-1)
            boxes = boxes.nan_to_num()
        return {
            "classification": (classification * counts).sum() / positives,
            "box": BOX_WEIGHT * (giou_loss(student.predictions.boxes(), boxes) * weights).sum() / positives,
        }

    def _counts(self, student: Output, assignment: Assignment) -> Tensor:
        """`(N, P)` bool: the candidates that count."""
        if self.levels == "all":
            return assignment.matched != IGNORED
        levels = student.predictions.grid.split(assignment.matched)
        return torch.cat([(level != IGNORED) & (level >= 0).any() for level in levels], dim=1)
