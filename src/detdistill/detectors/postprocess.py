"""From a detector's output to detections: select, decode, suppress."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor
from torchvision.ops import batched_nms

from detdistill.core.bounds import Count, Probability
from detdistill.core.boxes import clip_boxes
from detdistill.core.output import Predictions
from detdistill.core.settings import settings
from detdistill.core.structures import Detections


def rank_within(groups: Tensor, scores: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts items by group, best score first.

    Args:
        groups: `(K,)` int64, the group of each item.
        scores: `(K,)`.

    Returns:
        The order `(K,)`, and the rank `(K,)` of each item, so ordered, within its group (0 is the best).
    """
    order = scores.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    ordered = groups[order]
    position = torch.arange(len(groups), device=groups.device)
    return order, position - torch.searchsorted(ordered, ordered)


@settings
class PostProcessing:
    """Dense inference: the best candidates of each level and of the image, NMS, the best detections.

    Selection by level is mmdetection's, by image EfficientDet's.
    """

    score_threshold: Annotated[float, Field(ge=0, lt=1)] = 0.05
    """Least class score (before a quality factor) of a candidate."""
    iou_threshold: Probability = 0.6
    """Overlap above which the lower-scored of two boxes of one class is suppressed."""
    candidates_per_level: Count = 1000
    """Largest number of (prior, class) pairs of a level, best class score first, that are decoded."""
    max_detections: Count = 100
    """Largest number of detections per image."""
    class_agnostic: bool = False
    """NMS among the boxes of all classes, so that one place has one class (mmdetection's `class_agnostic`); without it,
    among those of each class."""
    candidates_per_image: Count | None = None
    """Largest number of (prior, class) pairs of all levels together, best class score first, that are decoded; null for
    no limit beyond the levels'. EfficientDet has 5000."""

    def __call__(self, predictions: Predictions, sizes: Tensor) -> list[Detections]:
        """Reads the detections off the predictions of a stage; candidates without a grid are of one level.

        Args:
            predictions: of N images.
            sizes: `(N, 2)` true height and width of each image: boxes are clipped to it.

        Returns:
            One `Detections` per image, best first.
        """
        image, prior, label = self._select(predictions)
        scores = predictions.scores((image, prior, label))
        boxes = clip_boxes(predictions.class_boxes((image, prior, label)), sizes[image])
        keep = ((boxes[:, 2:] > boxes[:, :2]).all(dim=1)).nonzero().squeeze(1)
        boxes, scores, image, label = boxes[keep], scores[keep], image[keep], label[keep]

        # torchvision separates the groups by shifting their boxes: in float32 that would cost up to 1/16 px for a
        # batch of 8 images with 80 classes, and an image's detections would depend on its neighbours.
        group = image if self.class_agnostic else image * predictions.num_classes + label
        keep = batched_nms(boxes.double(), scores.double(), group, self.iou_threshold)
        order, rank = rank_within(image[keep], scores[keep])
        keep = keep[order[rank < self.max_detections]]
        boxes, scores, image, label = boxes[keep], scores[keep], image[keep], label[keep]
        counts = torch.bincount(image, minlength=len(sizes)).tolist()
        per_image = zip(*(torch.split(part, counts) for part in (boxes, scores, label)), strict=True)
        return [Detections(*parts) for parts in per_image]

    def _select(self, predictions: Predictions) -> tuple[Tensor, Tensor, Tensor]:
        """Image, prior and class of the candidates, chosen by their logits: nothing is decoded or squashed before."""
        logits = predictions.class_logits
        exists = predictions.candidates.valid
        grid = predictions.candidates.grid
        per_level = (predictions.candidates.count,) if grid is None else grid.level_lengths
        if self.candidates_per_image is not None:
            if exists is not None:
                logits = logits.masked_fill(~exists[..., None], -math.inf)
            values, prior, label = self.best_pairs(logits, per_level)
            chosen = values > self.least_logit
            return chosen.nonzero(as_tuple=True)[0], prior[chosen], label[chosen]
        above = logits > self.least_logit if self.score_threshold > 0 else torch.ones_like(logits, dtype=torch.bool)
        if exists is not None:
            above &= exists[..., None]
        image, prior, label = above.nonzero(as_tuple=True)
        lengths = torch.tensor(per_level, device=logits.device)
        level = torch.arange(len(lengths), device=logits.device).repeat_interleave(lengths)[prior]
        order, rank = rank_within(image * len(lengths) + level, logits[image, prior, label])
        order = order[rank < self.candidates_per_level]
        return image[order], prior[order], label[order]

    @property
    def least_logit(self) -> float:
        """The logit above which a class score passes `score_threshold`."""
        return math.log(self.score_threshold / (1 - self.score_threshold)) if self.score_threshold > 0 else -math.inf

    def best_pairs(self, logits: Tensor, level_lengths: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """The best (prior, class) pairs of each level, and of those the best of each image, whatever their scores.

        Args:
            logits: `(N, P, C)` of the classes.
            level_lengths: number of priors of each level.

        Returns:
            Logits, priors and classes, `(N, K)` each.
        """
        classes, start = logits.shape[2], 0
        priors, labels, values = [], [], []
        for length in level_lengths:  # slices, because in a traced graph a split keeps the example's lengths
            flat = logits[:, start : start + length].flatten(1)
            best, place = flat.topk(min(self.candidates_per_level, flat.shape[1]), dim=1)
            priors.append(start + place // classes)
            labels.append(place % classes)
            values.append(best)
            start += length
        value, prior, label = (torch.cat(parts, dim=1) for parts in (values, priors, labels))
        if self.candidates_per_image is None:
            return value, prior, label
        value, place = value.topk(min(self.candidates_per_image, value.shape[1]), dim=1)
        return value, prior.gather(1, place), label.gather(1, place)
