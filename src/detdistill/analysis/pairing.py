"""A student beside its teacher on one batch, on the cells, candidates and classes that both have."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from detdistill.core.boxes import aligned_iou, pairwise_iou
from detdistill.core.output import Output, Predictions
from detdistill.core.structures import Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.postprocess import rank_within
from detdistill.distill.class_map import ClassMap
from detdistill.distill.grid_correspondence import grid_correspondence
from detdistill.distill.view import View
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


def align(student: Detector, classes: ClassMap, own: Output, other: Output, targets: Targets) -> tuple[View, list[str]]:
    """Brings two outputs of one batch together, and tells what was done for it.

    Args:
        student: its assigner gives each object its candidates.
        classes: which mean the same.
        own: the student's output.
        other: the teacher's.
        targets: with the student's labels.

    Raises:
        DetdistillError: no common level.
    """
    way, guidance = (
        grid_correspondence(own.predictions.grid.strides, other.predictions.grid.strides, classes),
        Guidance(other),
    )
    return way(own, guidance, student.match(own, targets), targets), way.notes(own, guidance)


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


def candidates(aligned: View) -> Candidates:
    """Those of the objects of a batch."""
    targets = aligned.targets
    objects, (image, prior) = aligned.assignment.positive_targets, aligned.assignment.positive
    known = targets.labels[objects] >= 0
    objects, image, prior = objects[known], image[known], prior[known]
    order = objects.argsort(stable=True)
    objects, image, prior = objects[order], image[order], prior[order]
    index = image, prior, targets.labels[objects]
    boxes = [output.predictions.boxes((image, prior)) for output in (aligned.student, aligned.teacher)]
    goals = targets.boxes[objects]
    return Candidates(
        objects,
        (image, prior),
        aligned.student.predictions.log_odds(index),
        aligned.teacher.predictions.log_odds(index),
        boxes[0],
        boxes[1],
        aligned_iou(boxes[0], goals),
        aligned_iou(boxes[1], goals),
    )


def reordered(output: Output, found: Candidates) -> Output:
    """The student's output with the scores of each object's candidates in the teacher's order.

    The candidate that the teacher ranks first gets the best of the student's own scores, and so on; all scores of a
    candidate move together. How high an object is scored, and the background, stay as they are: this is what Rank
    Mimicking alone could give.

    Args:
        output: the student's.
        found: the candidates in it.
    """
    own, other = (rank_within(found.objects, scores)[0] for scores in (found.own, found.other))
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
