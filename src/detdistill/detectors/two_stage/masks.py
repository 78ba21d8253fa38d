"""What a mask branch predicts, learns and detects.

Letters in shapes: N images, P proposals, C classes, K positives or detections, S cells of a mask's side.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.mask_targets import binary_mask_targets, soft_mask_targets
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import Detections, ReduceSum, Targets
from detdistill.detectors.two_stage.region_features import RegionFeatures


@dataclass(frozen=True)
class MaskRules:
    """Of a mask branch.

    Attributes:
        features: how regions are read off the pyramid.
        soft_targets: a cell learns the share of the object in it (torchvision), not whether that is half (mmdetection).
    """

    features: RegionFeatures
    soft_targets: bool = False


@dataclass(frozen=True, eq=False)
class MaskPredictions:
    """Masks of the positives of a stage, in training.

    Attributes:
        logits: `(K, C, S, S)`, or `(K, 1, S, S)` for one mask for all classes.
        boxes: `(K, 4)` where they lie, in pixels.
        image: `(K,)` the image of each.
        objects: `(K,)` the object of each, 0 to G - 1.
    """

    logits: Tensor
    boxes: Tensor
    image: Tensor
    objects: Tensor


class MaskReader(Protocol):
    """Runs the mask branch of a stage."""

    def __call__(self, stage: int, features: Tensor) -> Tensor:
        """Logits `(K, C, S, S)` or `(K, 1, S, S)` of features `(K, Q, s, s)`."""


def mask_loss(found: MaskPredictions, targets: Targets, rules: MaskRules, reduce_sum: ReduceSum) -> Tensor:
    """Binary cross entropy of the object's class's mask, over all positives whose object has a mask, and their cells.

    Args:
        found: masks of positives.
        targets: the objects, with masks; without any, the loss is 0 and still depends on the branch.
        rules: of the branch.
        reduce_sum: sums counts over processes.
    """
    masks = targets.masks
    if masks is None:
        masks = InstanceMasks.empty((1, 1), len(targets.labels)).to(found.logits.device)
    known = masks.present[found.objects]
    count = reduce_sum(known.sum().float()).clamp(min=1)
    logits = at_least_float32(of_class(found.logits, targets.labels[found.objects]))[known]
    boxes, objects = found.boxes[known], found.objects[known]
    side = logits.shape[-1]
    if rules.soft_targets:
        goals = soft_mask_targets(masks, boxes, objects, targets.sizes[found.image[known]], side=side)
    else:
        goals = binary_mask_targets(masks, boxes, objects, side=side)
    crossed = F.binary_cross_entropy_with_logits(logits, goals.to(logits.dtype), reduction="none")
    return crossed.mean(dim=(1, 2)).sum() / count


def of_class(logits: Tensor, labels: Tensor) -> Tensor:
    """`(K, S, S)` the masks of a class of each, of `(K, C, S, S)`."""
    if logits.shape[1] == 1:
        return logits[:, 0]
    return logits[torch.arange(len(labels), device=labels.device), labels]


def with_masks(
    detections: list[Detections], maps: tuple[Tensor, ...], rules: MaskRules, read: MaskReader, stages: int
) -> list[Detections]:
    """The detections with their masks' probabilities, averaged over the stages' branches.

    Args:
        detections: of each image, in pixels of the canvas.
        maps: the pyramid, L x `(N, Q, H, W)`.
        rules: of the branch.
        read: runs it.
        stages: number of branches.
    """
    counts = [len(each) for each in detections]
    boxes = torch.cat([each.boxes for each in detections])
    labels = torch.cat([each.labels for each in detections])
    image = torch.arange(len(detections), device=boxes.device).repeat_interleave(torch.tensor(counts).to(boxes.device))
    features = rules.features(maps, boxes, image)
    probabilities = torch.stack(
        [at_least_float32(of_class(read(stage, features), labels)).sigmoid() for stage in range(stages)]
    ).mean(dim=0)
    parts = torch.split(probabilities, counts)
    return [replace(each, mask_probabilities=part) for each, part in zip(detections, parts, strict=True)]
