"""A student beside its teacher on one batch: on the cells that both have, and by the teacher's opinions of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from detdistill.core.boxes import aligned_iou, pairwise_iou
from detdistill.core.offers import Offer
from detdistill.core.output import Output, Predictions
from detdistill.core.structures import Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.postprocess import rank_within
from detdistill.distill.class_map import ClassMap
from detdistill.distill.opinion_correspondence import OpinionCorrespondence
from detdistill.distill.view import View
from detdistill.distill.ways import usual_correspondences
from detdistill.teachers.teacher import Guidance


@dataclass(frozen=True, eq=False, kw_only=True)
class SwappedPredictions(Predictions):
    """The boxes of one detector, ranked by the scores of another one of the same candidates.

    Attributes:
        ranked_by: gives the scores.
        boxed_by: gives the boxes.
    """

    ranked_by: Predictions
    boxed_by: Predictions

    def scores(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """Those of `ranked_by`."""
        return self.ranked_by.scores(index)

    def boxes(self, index: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Those of `boxed_by`."""
        return self.boxed_by.boxes(index)


def swapped(ranked_by: Output, boxed_by: Output) -> Output:
    """Scores of one, boxes of the other."""
    scores, boxes = ranked_by.predictions, boxed_by.predictions
    return boxed_by.with_predictions(
        SwappedPredictions(
            boxes.candidates,
            scores.class_logits,
            boxes.regression,
            boxes.coder,
            scores.quality_logits,
            ranked_by=scores,
            boxed_by=boxes,
        )
    )


@dataclass(frozen=True, eq=False)
class Candidates:
    """The candidates of the objects of a batch, as Rank Mimicking sees them: the student's positives.

    Attributes:
        objects: `(K,)` the object of each, ascending; only objects of a class that the teacher knows.
        places: image and prior `(K,)` of each.
        own: `(K,)` the student's score for the object's class, as a logit: what it ranks by.
        other: `(K,)` the teacher's.
        own_boxes: `(K, 4)` in pixels of the canvas.
        other_boxes: `(K, 4)` the teacher's.
        own_iou: `(K,)` IoU of the student's box with the object.
        other_iou: `(K,)` the teacher's.
    """

    objects: Tensor
    places: tuple[Tensor, Tensor]
    own: Tensor
    other: Tensor
    own_boxes: Tensor
    other_boxes: Tensor
    own_iou: Tensor
    other_iou: Tensor


@dataclass(frozen=True, eq=False)
class Ranked:
    """One way to see what teacher and student made of a batch.

    Attributes:
        view: both outputs. An object has the label `BACKGROUND` only if the teacher does not know its class.
    """

    view: View

    @cached_property
    def candidates(self) -> Candidates:
        """Those of the objects."""
        view = self.view
        targets = view.targets
        objects, (image, prior) = view.assignment.positive_targets, view.assignment.positive
        known = targets.labels[objects] >= 0
        objects, image, prior = objects[known], image[known], prior[known]
        order = objects.argsort(stable=True)
        objects, image, prior = objects[order], image[order], prior[order]
        index = image, prior, targets.labels[objects]
        boxes = [output.predictions.boxes((image, prior)) for output in (view.student, view.teacher)]
        goals = targets.boxes[objects]
        return Candidates(
            objects,
            (image, prior),
            view.student.predictions.log_odds(index),
            view.teacher.predictions.log_odds(index),
            boxes[0],
            boxes[1],
            aligned_iou(boxes[0], goals),
            aligned_iou(boxes[1], goals),
        )


@dataclass(frozen=True, eq=False)
class Compared:
    """A student beside its teacher on one batch.

    Attributes:
        dense: on the cells that both have; None of a teacher without scores on the student's cells.
        opinion: on all the student's candidates. The teacher's scores are its opinions of the student's boxes.
        has_opinion: `(G,)` bool, objects of which some candidate overlaps a box of their class that the teacher
            predicts.
        notes: what was done to compare the two.
    """

    dense: Ranked | None
    opinion: Ranked
    has_opinion: Tensor
    notes: Sequence[str]


def compare(
    student: Detector, offers: frozenset[Offer], classes: ClassMap, own: Output, guidance: Guidance, targets: Targets
) -> Compared:
    """Bring the two together on one batch.

    Args:
        student: its assigner gives each object its candidates.
        offers: of the teacher, among them `opinions`.
        classes: which mean the same.
        own: the student's output.
        guidance: the teacher's.
        targets: with the student's labels.
    """
    matches = student.match(own, targets)
    ways, why = usual_correspondences(own, guidance, offers, classes)
    on_cells = next((way for way in ways if "grid" in way.offers), None)
    if on_cells is None:
        dense = None
        reason = why or "the teacher has no scores on cells"
        notes = [f"the teacher's scores and features on the student's cells are left out: {reason}"]
    else:
        dense = Ranked(on_cells(own, guidance, matches, targets))
        notes = on_cells.notes(own, guidance)
    opinion = OpinionCorrespondence(classes, everywhere=True)(own, guidance, matches, targets)
    all_known = replace(opinion, targets=replace(opinion.targets, labels=classes.labels(targets.labels)))
    return Compared(dense, Ranked(all_known), opinion.targets.labels >= 0, notes)


def reordered(output: Output, found: Candidates) -> Output:
    """The student's output with the scores of each object's candidates in the teacher's order.

    The candidate that the teacher ranks first gets the best of the student's own scores, and so on; all scores of a
    candidate move together. Candidates that the teacher ranks equal keep the student's order. How high an object is
    scored, and the background, stay as they are: this is what Rank Mimicking alone could give.

    Args:
        output: the student's.
        found: the candidates in it.
    """
    own = rank_within(found.objects, found.own)[0]
    other = own[rank_within(found.objects[own], found.other[own])[0]]
    image, prior = found.places
    given, taken = (image[own], prior[own]), (image[other], prior[other])
    predictions, quality = output.predictions, output.predictions.quality_logits
    return output.with_predictions(
        replace(
            predictions,
            logits=predictions.logits.index_put(taken, predictions.logits[given]),
            quality_logits=None if quality is None else quality.index_put(taken, quality[given]),
        )
    )


def crowding(targets: Targets) -> Tensor:
    """`(G,)` the largest IoU of each object with another one of its image."""
    iou = pairwise_iou(targets.boxes, targets.boxes)
    others = targets.image[:, None] == targets.image[None, :]
    iou = iou * (others & ~torch.eye(len(iou), dtype=torch.bool, device=iou.device))
    return iou.amax(dim=1) if len(iou) else iou.new_zeros(0)
