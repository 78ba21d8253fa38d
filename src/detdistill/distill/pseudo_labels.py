"""What a teacher finds in images without annotations, as their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detdistill.core.output import Output
from detdistill.core.structures import IGNORED, Assignment, Matches, ReduceSum, Targets
from detdistill.detectors.base import Detector
from detdistill.distill.class_map import ClassMap
from detdistill.teachers.opinions import SURE_FLOOR
from detdistill.teachers.teacher import Guidance

PREFIX = "pseudo_"
"""Before the names of the detection loss's terms of unlabelled images."""


class PseudoLabels:
    """Makes objects of a teacher's boxes in images that nobody has annotated.

    A box whose score reaches the threshold of its class is an object. One below it, but not below 0.05 nor below the
    teacher's floor, is ignored: neither object nor background. Boxes of classes that the student lacks do not count.

    Args:
        thresholds: of the student's classes, 0 to 1; a class without any, above 1, has no objects. None if they are not
            known yet.
        weight: of the detection loss of these images; 0 if it does not learn these objects.
    """

    def __init__(self, thresholds: Sequence[float] | None = None, weight: float = 1.0) -> None:
        self.thresholds = thresholds
        self.weight = weight

    def targets(self, targets: Targets, guidance: Guidance, classes: ClassMap) -> Targets:
        """The targets of a batch, with objects and ignored boxes in its unlabelled images.

        Args:
            targets: of the batch; those of unlabelled images have no objects.
            guidance: the teacher's, with boxes.
            classes: which classes mean the same.

        Raises:
            ValueError: the thresholds are not known.
        """
        if targets.labelled is None:
            return targets
        if self.thresholds is None:
            raise ValueError("the thresholds of pseudo-labels are not known yet")
        device = targets.boxes.device
        meaning = classes.meaning.to(device)
        least = torch.tensor(self.thresholds, device=device)
        parts = [(targets.boxes, targets.labels, targets.image)]
        unsure = [(targets.ignored, targets.ignored_image)]
        for image in (~targets.labelled).nonzero().flatten().tolist():
            found = guidance.set_of_boxes[image]
            labels = meaning[found.labels]
            boxes = _inside(found.boxes.to(targets.boxes.dtype), targets.sizes[image])
            counts = (labels >= 0) & (found.scores >= max(found.floor, SURE_FLOOR)) & _has_area(boxes)
            boxes, labels, scores = boxes[counts], labels[counts], found.scores[counts]
            is_object = scores >= least[labels]
            parts.append((boxes[is_object], labels[is_object], torch.full_like(labels[is_object], image)))
            unsure.append((boxes[~is_object], torch.full_like(labels[~is_object], image)))
        boxes, labels, image_of = (torch.cat(columns) for columns in zip(*parts, strict=True))
        ignored, ignored_image = (torch.cat(columns) for columns in zip(*unsure, strict=True))
        order, ignored_order = image_of.argsort(stable=True), ignored_image.argsort(stable=True)
        return replace(
            targets,
            boxes=boxes[order],
            labels=labels[order],
            image=image_of[order],
            ignored=ignored[ignored_order],
            ignored_image=ignored_image[ignored_order],
        )

    def loss(
        self, student: Detector, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """The terms of the detection loss of annotated images, and of the others, each with its own normaliser.

        Args:
            student: whose loss it is.
            output: the student's.
            targets: with the objects of all images.
            matches: of the student's candidates, by stage.
            reduce_sum: sums counts over processes.
        """
        if targets.labelled is None:
            return student.loss(output, targets, matches, reduce_sum)
        losses = student.loss(output, targets, _of_images(matches, targets.labelled), reduce_sum)
        if not self.weight:
            return losses
        found = student.loss(output, targets, _of_images(matches, ~targets.labelled), reduce_sum)
        return losses | {f"{PREFIX}{name}": self.weight * value for name, value in found.items()}


def _of_images(matches: Matches, chosen: Tensor) -> Matches:
    """Matches in which the candidates of images that are not chosen are ignored."""
    return {
        stage: Assignment(torch.where(chosen[:, None], assignment.matched, IGNORED))
        for stage, assignment in matches.items()
    }


def _inside(boxes: Tensor, size: Tensor) -> Tensor:
    """Boxes `(J, 4)` clipped to an image of this height and width."""
    limits = size.flip(0).repeat(2).to(boxes.dtype)
    return boxes.clamp(min=0).minimum(limits)


def _has_area(boxes: Tensor) -> Tensor:
    """`(J,)` which boxes are at least a pixel wide and high."""
    return (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= 1
