"""Rank Mimicking (Li et al., AAAI 2022, arXiv 2112.04840)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor

from detdistill.core.boxes import aligned_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.output import Output
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Assignment, ReduceSum, Targets
from detdistill.distill.candidates import CandidateLists, positives_and_best
from detdistill.distill.term import Method, Term, check_temperature
from detdistill.distill.view import View
from detdistill.losses.rank import plackett_luce, rank_mimicking

Scores = Callable[[Output, Tensor, Tensor], Tensor]
"""What an output's candidates are ranked by, `(K,)`, from the object and the prior of each, both `(K,)`."""


class RankMimicking(Term):
    """For every object, the student learns in which order, and how clearly, the teacher ranks the candidate boxes.

    An object's candidates are the student's positives for it, over all levels and anchors. Their scores for the
    object's class become a distribution by a softmax, on both sides; the loss is KL(teacher ‖ student), summed over
    the candidates, times T², and averaged over the objects that have candidates. Two options are extensions of this
    package, not the paper's: `form: plackett_luce` and `candidates: topk`.

    Args:
        space: the softmax is taken of class logits, or of probabilities, which differ less: they make flatter
            distributions. The paper says only "scores"; weights do not carry over from one to the other.
        temperature: T, above 0: what scores are divided by.
        rank_by: the class score; the IoU of the decoded box with the object (`localization`); or both, added, which
            the paper finds best. The printed form of the second is not known; here it is the same softmax and KL of
            the IoUs.
        detector_score: rank by class times quality where the detector does (FCOS, ATSS).
        form: `kl`, or `plackett_luce` (an extension): how unlikely the teacher's order is when the student chooses the
            best of what is left, again and again. Of the teacher only the order counts, its top the most; T divides
            the student's scores and no T² follows.
        candidates: the student's positives; `topk` (an extension) adds the k candidates that the student, and the k
            that the teacher ranks highest among those with their centre in the object's box, so that the student also
            learns whom to rank low. A candidate may then be in the lists of several objects.
        k: of `topk`, at least 1.

    Raises:
        DetdistillError: the temperature is not above 0, or k is below 1.
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
        form: Literal["kl", "plackett_luce"] = "kl",
        candidates: Literal["positive", "topk"] = "positive",
        k: int = 9,
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        if k < 1:
            raise DetdistillError(f"k must be at least 1, not {k}")
        self.space, self.temperature = space, temperature
        self.rank_by, self.detector_score = rank_by, detector_score
        self.form, self.candidates, self.k = form, candidates, k

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification` and `localization`, as far as asked for."""
        student, teacher, targets = view.student, view.teacher, view.targets

        def class_scores(output: Output, objects: Tensor, priors: Tensor) -> Tensor:
            index = targets.image[objects], priors, targets.labels[objects]
            logits = (
                output.predictions.log_odds(index)
                if self.detector_score
                else at_least_float32(output.predictions.class_logits[index])
            )
            return logits if self.space == "logit" else logits.sigmoid()

        def overlaps(output: Output, objects: Tensor, priors: Tensor) -> Tensor:
            return aligned_iou(output.predictions.boxes((targets.image[objects], priors)), targets.boxes[objects])

        known = targets.labels >= 0
        rankings: dict[str, tuple[Scores, Tensor]] = {}
        if self.rank_by != "localization":
            rankings["classification"] = class_scores, known
        if self.rank_by != "classification":
            rankings["localization"] = overlaps, known.new_ones(len(known))
        parts = {}
        for name, (scores, among) in rankings.items():
            own, other = partial(scores, student), partial(scores, teacher)
            objects, priors = self._lists(student.predictions.grid, view.assignment, targets, (own, other), among)
            parts[name] = self._difference(own(objects, priors), other(objects, priors), objects, view.reduce_sum)
        return parts

    def _lists(
        self,
        grid: Grid,
        assignment: Assignment,
        targets: Targets,
        scores: Sequence[Callable[[Tensor, Tensor], Tensor]],
        among: Tensor,
    ) -> CandidateLists:
        """The candidates of those objects that are `among` `(G,)`."""
        if self.candidates == "topk":
            return positives_and_best(grid, assignment, targets, scores, self.k, among)
        objects, (_, priors) = assignment.positive_targets, assignment.positive
        kept = among[objects]
        return objects[kept], priors[kept]

    def _difference(self, student: Tensor, teacher: Tensor, objects: Tensor, reduce_sum: ReduceSum) -> Tensor:
        if self.form == "kl":
            return rank_mimicking(student, teacher, objects, temperature=self.temperature, reduce_sum=reduce_sum)
        return plackett_luce(student / self.temperature, teacher, objects, reduce_sum=reduce_sum)
