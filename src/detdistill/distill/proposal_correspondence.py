"""The correspondence of two second stages: both read the student's proposals."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch

from detdistill.core.offers import Offer
from detdistill.core.output import Features, Output, RegionReader
from detdistill.core.structures import Matches, ReduceSum, Targets, single_process
from detdistill.detectors.two_stage.region_predictions import RegionPredictions
from detdistill.distill.class_map import ClassMap
from detdistill.distill.view import Need, View
from detdistill.teachers.teacher import Guidance


@dataclass(frozen=True, eq=False)
class ProposalCorrespondence:
    """The student's proposals, scored by the last region head of each, which reads its own features.

    The student proposes, matches and samples; the teacher's head reads the same boxes off the teacher's pyramid,
    without gradient. Published methods also share the teacher's proposals (MIMIC, DeFeat); the student's are those that
    its own head must learn to score.

    Attributes:
        classes: which classes mean the same.
        reader: the teacher's second stage.
    """

    classes: ClassMap
    reader: RegionReader

    offers: ClassVar[frozenset[Offer]] = frozenset({"rois"})

    def serving(self, need: Need) -> Self:  # noqa: ARG002
        """Itself: its views have all."""
        return self

    def __call__(
        self,
        student: Output,
        guidance: Guidance,
        matches: Matches,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> View:
        """Let the teacher read the proposals of one batch; arguments as of `Correspondence`."""
        own = student.predictions
        boxes, valid = own.candidates.boxes, own.candidates.valid
        if valid is None:
            valid = torch.ones(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
        given = None
        if isinstance(own, RegionPredictions) and own.pool is not None and own.place is not None:
            given = own.pool.objects.gather(1, own.place) >= 0
        maps = guidance.dense.features.maps
        with torch.no_grad():
            other = self.reader.read_proposals(len(self.reader.stage_names) - 1, maps, boxes, valid)
        if not self.classes.is_identity:
            student = student.with_predictions(own.with_class_logits(self.classes.of_student(own.class_logits)))
            other = other.with_class_logits(self.classes.of_teacher(other.class_logits))
            targets = replace(targets, labels=self.classes.labels(targets.labels))
        teacher = Output(Features((), ()), {student.final: other}, student.final)
        return View(student, teacher, matches[student.final], targets, reduce_sum, given=given)

    def notes(self, student: Output, guidance: Guidance) -> list[str]:  # noqa: ARG002
        """What is compared, in a line."""
        return ["proposals: the teacher's second stage reads the student's proposals"]
