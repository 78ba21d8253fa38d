"""Rank Mimicking (Li et al., AAAI 2022, arXiv 2112.04840)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from detdistill.boxes import aligned_iou
from detdistill.distill.term import Method, Term
from detdistill.errors import DetdistillError
from detdistill.losses.rank import rank_mimicking
from detdistill.precision import at_least_float32
from detdistill.structures import Assignment, DenseOutput, ReduceSum, Targets, single_process


class RankMimicking(Term):
    """For every object, the student learns in which order, and how clearly, the teacher ranks the candidate boxes.

    An object's candidates are the student's positives for it, over all levels and anchors. Their scores for the
    object's class become a distribution by a softmax, on both sides; the loss is KL(teacher ‖ student), summed over
    the candidates, times T², and averaged over the objects that have candidates.

    Args:
        space: the softmax is taken of class logits, or of probabilities, which differ less: they make flatter
            distributions. The paper says only "scores"; weights do not carry over from one to the other.
        temperature: T, above 0: what scores are divided by.
        rank_by: the class score; the IoU of the decoded box with the object (`localization`); or both, added, which
            the paper finds best. The printed form of the second is not known; here it is the same softmax and KL of
            the IoUs.
        detector_score: rank by class times quality where the detector does (FCOS, ATSS).

    Raises:
        DetdistillError: the temperature is not above 0.
    """

    method = Method(
        paper="Li et al., AAAI 2022, arXiv 2112.04840",
        compares="the ranking of each object's candidates",
        needs="class scores at the student's positives; boxes for rank_by localization",
        weights={"retinanet": 4.0},
        sources="an unmerged configuration of mmrazor; the paper's own weight is not known",
        reported=(
            "with prediction_guided: RetinaNet R50 to 40.4, a gain of 3.5 (the paper's abstract); "
            "37.4 to 39.6, teacher R101 (DAVAR's table)"
        ),
    )

    def __init__(
        self,
        *,
        space: Literal["logit", "prob"] = "logit",
        temperature: float = 1.0,
        rank_by: Literal["classification", "localization", "both"] = "classification",
        detector_score: bool = False,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise DetdistillError(f"temperature must be above 0, not {temperature}")
        self.space, self.temperature = space, temperature
        self.rank_by, self.detector_score = rank_by, detector_score

    def forward(
        self,
        student: DenseOutput,
        teacher: DenseOutput,
        assignment: Assignment,
        targets: Targets,
        reduce_sum: ReduceSum = single_process,
    ) -> dict[str, Tensor]:
        """`classification` and `localization`, as far as asked for."""
        image, prior = assignment.positive
        objects = assignment.positive_targets
        parts = {}
        if self.rank_by != "localization":
            labels = targets.labels[objects]
            known = labels >= 0
            index = image[known], prior[known], labels[known]
            parts["classification"] = rank_mimicking(
                self._scores(student, index),
                self._scores(teacher, index),
                objects[known],
                temperature=self.temperature,
                reduce_sum=reduce_sum,
            )
        if self.rank_by != "classification":
            goals = targets.boxes[objects]
            parts["localization"] = rank_mimicking(
                aligned_iou(student.boxes((image, prior)), goals),
                aligned_iou(teacher.boxes((image, prior)), goals),
                objects,
                temperature=self.temperature,
                reduce_sum=reduce_sum,
            )
        return parts

    def _scores(self, output: DenseOutput, index: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """`(K,)` what the candidates are ranked by."""
        logits = output.score_logits(index) if self.detector_score else at_least_float32(output.class_logits[index])
        return logits if self.space == "logit" else logits.sigmoid()
