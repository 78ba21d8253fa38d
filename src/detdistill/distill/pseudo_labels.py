"""What a teacher finds in images without annotations, as their objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detdistill.core.instance_masks import InstanceMasks
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
        unlabelled = (~targets.labelled).nonzero().flatten()
        found = [guidance.set_of_boxes[image] for image in unlabelled.tolist()]
        if not found:
            return targets
        device = targets.boxes.device
        counts = torch.tensor([len(each) for each in found], device=device)
        floors = torch.tensor([max(each.floor, SURE_FLOOR) for each in found], device=device)
        own = torch.cat([each.labels for each in found])
        scores = torch.cat([each.probabilities for each in found]).gather(1, own[:, None]).squeeze(1)
        image, labels = unlabelled.repeat_interleave(counts), classes.meaning.to(device)[own]
        limits = targets.sizes[image].flip(1).repeat(1, 2)
        boxes = torch.cat([each.boxes for each in found]).to(targets.boxes.dtype).clamp(min=0).minimum(limits)
        is_known = (labels >= 0) & (scores >= floors.repeat_interleave(counts)) & _has_area(boxes)
        # The label -1 of a class that the student lacks would choose the last threshold; such boxes do not count.
        is_object = is_known & (scores >= torch.tensor(self.thresholds, device=device)[labels])
        is_unsure = is_known & ~is_object
        image_of = torch.cat((targets.image, image[is_object]))
        ignored_image = torch.cat((targets.ignored_image, image[is_unsure]))
        order, ignored_order = image_of.argsort(stable=True), ignored_image.argsort(stable=True)
        return replace(
            targets,
            boxes=torch.cat((targets.boxes, boxes[is_object]))[order],
            labels=torch.cat((targets.labels, labels[is_object]))[order],
            image=image_of[order],
            masks=None if targets.masks is None else _with_found(targets.masks, int(is_object.sum())).take(order),
            ignored=torch.cat((targets.ignored, boxes[is_unsure]))[ignored_order],
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


def _with_found(masks: InstanceMasks, count: int) -> InstanceMasks:
    """The masks of annotated objects, and as many found ones without a mask."""
    nothing = InstanceMasks.empty(masks.size, count).to(masks.pixels.device)
    return InstanceMasks.joined([masks, nothing], masks.size)


def _of_images(matches: Matches, chosen: Tensor) -> Matches:
    """Matches in which the candidates of images that are not chosen are ignored."""
    return {
        stage: Assignment(torch.where(chosen[:, None], assignment.matched, IGNORED))
        for stage, assignment in matches.items()
    }


def _has_area(boxes: Tensor) -> Tensor:
    """`(J,)` which boxes are at least a pixel wide and high."""
    return (boxes[:, 2:] - boxes[:, :2]).amin(dim=1) >= 1
