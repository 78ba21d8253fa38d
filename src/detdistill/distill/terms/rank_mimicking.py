"""Rank Mimicking (Li et al., AAAI 2022, arXiv 2112.04840)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

from torch import Tensor

from detdistill.core.boxes import aligned_iou
from detdistill.core.errors import DetdistillError
from detdistill.core.output import Output
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import ReduceSum
from detdistill.distill.candidates import CandidateLists, positives_and_best
from detdistill.distill.term import OPINIONS, REGIONS, SCORES, Method, Pair, Source, Term, check_temperature, needs_of
from detdistill.distill.view import Need, View
from detdistill.losses.rank import plackett_luce, rank_mimicking
from detdistill.teachers.opinions import SHARPNESS

LEAST_OPINION = 1e-4
"""What an opinion is at least before its logarithm is ranked by."""

Scores = Callable[[Output, Tensor, Tensor], Tensor]
"""What an output's candidates are ranked by, `(K,)`, from the object and the prior of each, both `(K,)`."""


class RankMimicking(Term):
    """For every object, the student learns in which order, and how clearly, the teacher ranks the candidate boxes.

    An object's candidates are the student's positives for it, over all levels and anchors. Their scores for the
    object's class become a distribution by a softmax, on both sides; the loss is KL(teacher ‖ student), summed over
    the candidates, times T², and averaged over the objects that have candidates. Two options are extensions of this
    package, not the paper's: `form: plackett_luce` and `candidates: topk`. So is its form for two-stage detectors, of
    which the paper has none: the anchors of an object, ranked by objectness, and its proposals, before some of them are
    sampled and without the object's own box, ranked by the class's probability or log-odds; both losses add up.

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
        source: of the teacher's scores (an extension), see `Source`. By `opinion`, the teacher's distribution is
            softmax(log max(F, 1e-4) / T), F being its opinion of the student's boxes; with one box of the teacher an
            object it is proportional to IoU^(sharpness / T). `rank_by` and `candidates` keep their first value.
        sharpness: power of the IoU in an opinion, above 0.
        object_weight: of the mean over objects, by opinion and with `form: kl`: `opinion`, the best of an object's
            candidates, so that objects count as the teacher is sure of them, or `equal`.

    Raises:
        DetdistillError: the temperature or the sharpness is not above 0, k is below 1, or options that exclude each
            other.
    """

    method = Method(
        paper="Li et al., AAAI 2022, arXiv 2112.04840",
        compares="the ranking of each object's candidates",
        needs="class scores at the student's positives, or boxes; boxes for rank_by localization",
        teacher=(SCORES, OPINIONS),
        student=SCORES,
        weights={"retinanet": 4.0},
        sources="an unmerged configuration of mmrazor; the paper's own weight is not known",
        opinion_ratio=0.1,  # found on validation images: 0.5 costs AP, see docs/methods.md
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
        source: Source = "auto",
        sharpness: float = SHARPNESS,
        object_weight: Literal["opinion", "equal"] = "opinion",
    ) -> None:
        super().__init__()
        check_temperature(temperature)
        if k < 1:
            raise DetdistillError(f"k must be at least 1, not {k}")
        if source == "opinion" and (rank_by != "classification" or candidates != "positive"):
            raise DetdistillError(
                f"source opinion ranks the positives by the teacher's opinion alone: leave out rank_by {rank_by} and "
                f"candidates {candidates}, or set source grid"
            )
        self.space, self.temperature = space, temperature
        self.rank_by, self.detector_score = rank_by, detector_score
        self.form, self.candidates, self.k = form, candidates, k
        self.object_weight = object_weight
        is_plain = rank_by == "classification" and candidates == "positive"
        self._needs = needs_of(source if is_plain else "grid", sharpness=sharpness)

    @property
    def needs(self) -> tuple[Need, ...]:
        """Scores of the same candidates, or opinions."""
        return self._needs

    @property
    def region_need(self) -> Need | None:
        """Shared proposals, where the positives are ranked by the teacher's own scores."""
        return Need(REGIONS) if self.candidates == "positive" and Need(SCORES) in self._needs else None

    def bind(self, pair: Pair) -> list[str]:
        """Lets a student with a second stage score all positive proposals, not only those that are sampled."""
        if pair.student.region_reader is not None and self.region_need is not None:
            pair.student.region_reader.keep_positives()
        return []

    def forward(self, view: View) -> dict[str, Tensor]:
        """`classification` and `localization`, as far as asked for."""
        if view.by_opinion:
            return {"classification": self._by_opinion(view)}
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
            index = targets.image[objects], priors, targets.labels[objects].clamp(min=0)
            return aligned_iou(output.predictions.class_boxes(index), targets.boxes[objects])

        known = targets.labels >= 0
        rankings: dict[str, tuple[Scores, Tensor]] = {}
        if self.rank_by != "localization":
            rankings["classification"] = class_scores, known
        if self.rank_by != "classification":
            rankings["localization"] = overlaps, known.new_ones(len(known))
        parts = {}
        for name, (scores, among) in rankings.items():
            own, other = partial(scores, student), partial(scores, teacher)
            objects, priors = self._lists(view, (own, other), among)
            parts[name] = self._difference(own(objects, priors), other(objects, priors), objects, view.reduce_sum)
        return parts

    def _by_opinion(self, view: View) -> Tensor:
        targets, objects = view.targets, view.assignment.positive_targets
        known = targets.labels[objects] >= 0
        objects = objects[known]
        image, prior = (place[known] for place in view.assignment.positive)
        index = image, prior, targets.labels[objects]
        own = view.student.predictions
        logits = own.log_odds(index) if self.detector_score else at_least_float32(own.class_logits[index])
        opinions = view.teacher.predictions.scores(index)
        weights = opinions.new_zeros(len(targets.labels)).scatter_reduce(0, objects, opinions, "amax")
        return self._difference(
            logits if self.space == "logit" else logits.sigmoid(),
            opinions.clamp(min=LEAST_OPINION).log(),
            objects,
            view.reduce_sum,
            weights if self.object_weight == "opinion" else None,
        )

    def _lists(self, view: View, scores: Sequence[Callable[[Tensor, Tensor], Tensor]], among: Tensor) -> CandidateLists:
        """The candidates of those objects that are `among` `(G,)`, without the objects' own boxes."""
        assignment = view.assignment
        if self.candidates == "topk":
            return positives_and_best(view.student.predictions.grid, assignment, view.targets, scores, self.k, among)
        objects, (image, priors) = assignment.positive_targets, assignment.positive
        kept = among[objects]
        if view.given is not None:
            kept = kept & ~view.given[image, priors]
        return objects[kept], priors[kept]

    def _difference(
        self,
        student: Tensor,
        teacher: Tensor,
        objects: Tensor,
        reduce_sum: ReduceSum,
        weights: Tensor | None = None,
    ) -> Tensor:
        if self.form == "kl":
            return rank_mimicking(
                student, teacher, objects, temperature=self.temperature, weights=weights, reduce_sum=reduce_sum
            )
        return plackett_luce(student / self.temperature, teacher, objects, reduce_sum=reduce_sum)
