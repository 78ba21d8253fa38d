"""Proposals: the boxes that a region proposal network thinks hold an object, and their objects.

Letters in shapes: N images, M proposals of an image at most, G objects and K proposals of the whole batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detdistill.core.boxes import box_sides, clip_boxes, pairwise_iou
from detdistill.core.output import Candidates, Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets
from detdistill.detectors.ignoring import ignore_background
from detdistill.detectors.postprocess import rank_within
from detdistill.detectors.suppression import kept_by_nms

_NO_SCORE = -1.0


@dataclass(frozen=True, eq=False)
class Proposals:
    """Boxes of each image that the second stage may look at. They carry no gradient.

    Attributes:
        boxes: `(N, M, 4)` in pixels.
        scores: `(N, M)` 0 to 1; 1 for ground truth.
        valid: `(N, M)` bool, which of them exist.
        objects: `(N, M)` int64, the object (0 to G - 1) whose own box this is; -1 for proposals.
    """

    boxes: Tensor
    scores: Tensor
    valid: Tensor
    objects: Tensor

    @classmethod
    def listed(cls, boxes: Tensor, scores: Tensor, image: Tensor, images: int) -> Proposals:
        """Of boxes `(K, 4)` with scores and images `(K,)`, images ascending."""
        counts = torch.bincount(image, minlength=images)
        most = int(counts.max()) if len(image) else 0
        place = torch.arange(len(image), device=image.device) - (counts.cumsum(0) - counts)[image]
        padded = boxes.new_zeros(images, most, 4)
        padded[image, place] = boxes
        ranks = scores.new_zeros(images, most)
        ranks[image, place] = scores
        valid = torch.arange(most, device=image.device) < counts[:, None]
        return cls(padded, ranks, valid, torch.full_like(valid, BACKGROUND, dtype=torch.int64))

    def with_objects(self, targets: Targets) -> Proposals:
        """The same behind the objects' own boxes."""
        objects = Proposals.listed(
            targets.boxes, targets.boxes.new_ones(len(targets.boxes)), targets.image, targets.num_images
        )
        counts = torch.bincount(targets.image, minlength=targets.num_images)
        first = (counts.cumsum(0) - counts)[:, None]
        index = torch.arange(objects.valid.shape[1], device=first.device) + first
        return Proposals(
            torch.cat((objects.boxes.to(self.boxes.dtype), self.boxes), dim=1),
            torch.cat((objects.scores.to(self.scores.dtype), self.scores), dim=1),
            torch.cat((objects.valid, self.valid), dim=1),
            torch.cat((torch.where(objects.valid, index, BACKGROUND), self.objects), dim=1),
        )


@dataclass(frozen=True)
class ProposalSelection:
    """How proposals are read off a region proposal network's output.

    Attributes:
        per_level: best anchors of a level that are decoded.
        kept: proposals of an image.
        iou_threshold: overlap above which the worse of two proposals of one level is dropped.
        least_side: pixels; a proposal has longer sides than this.
        score_threshold: least score.
    """

    per_level: int
    kept: int
    iou_threshold: float = 0.7
    least_side: float = 0.0
    score_threshold: float = 0.0

    @torch.no_grad()
    def __call__(self, predictions: Predictions, sizes: Tensor) -> Proposals:
        """The proposals of each image, best first.

        Args:
            predictions: on a grid, of the one class "object".
            sizes: `(N, 2)` true height and width of each image: boxes are clipped to it.
        """
        if torch.compiler.is_compiling():
            return self._of_fixed_number(predictions, sizes)
        images, start = len(sizes), 0
        chosen, levels = [], []
        for number, logits in enumerate(predictions.grid.split(predictions.logits[..., 0])):
            best = logits.topk(min(self.per_level, logits.shape[1]), dim=1).indices
            chosen.append(best + start)
            levels.append(torch.full_like(best, number))
            start += logits.shape[1]
        prior, level = torch.cat(chosen, dim=1), torch.cat(levels, dim=1).flatten()
        image = torch.arange(images, device=prior.device).repeat_interleave(prior.shape[1])
        prior = prior.flatten()
        scores = predictions.scores((image, prior, torch.zeros_like(prior)))
        boxes = clip_boxes(predictions.boxes((image, prior)), sizes[image])
        fits = ((box_sides(boxes) > self.least_side).all(dim=1) & (scores >= self.score_threshold)).nonzero().squeeze(1)
        boxes, scores, image, level = boxes[fits], scores[fits], image[fits], level[fits]
        # In float64: see `PostProcessing`.
        group = image * predictions.grid.num_levels + level
        keep = batched_nms(boxes.double(), scores.double(), group, self.iou_threshold)
        order, rank = rank_within(image[keep], scores[keep])
        keep = keep[order[rank < self.kept]]
        return Proposals.listed(boxes[keep], scores[keep], image[keep], images)

    def _of_fixed_number(self, predictions: Predictions, sizes: Tensor) -> Proposals:
        """The same as an exporter can follow it: as many places in every image, of which some are not valid."""
        start, found, ranks = 0, [], []
        image = torch.arange(predictions.logits.shape[0], device=sizes.device)[:, None]
        for length in predictions.grid.level_lengths:
            logits, place = predictions.logits[:, start : start + length, 0].topk(min(self.per_level, length), dim=1)
            index = image.expand_as(place).flatten(), (place + start).flatten()
            boxes = clip_boxes(predictions.boxes(index).reshape(*place.shape, 4), sizes[:, None])
            scores = at_least_float32(logits).sigmoid()
            fits = (box_sides(boxes) > self.least_side).all(dim=2) & (scores >= self.score_threshold)
            scores = torch.where(fits, scores, _NO_SCORE)
            found.append(boxes)
            ranks.append(torch.where(kept_by_nms(boxes, scores, self.iou_threshold) > 0, scores, _NO_SCORE))
            start += length
        scores = torch.cat(ranks, dim=1)
        best, order = scores.topk(min(self.kept, scores.shape[1]), dim=1)
        boxes = torch.cat(found, dim=1).gather(1, order[..., None].expand(-1, -1, 4))
        return Proposals(boxes, best.clamp(min=0), best >= 0, torch.full_like(order, BACKGROUND))


@dataclass(frozen=True)
class ProposalMatcher:
    """A proposal learns the object it overlaps most, if it does so enough; all others are background.

    Attributes:
        positive: lowest IoU of a proposal with its object.
        match_low_quality: each object also takes the proposals that overlap it most, and at least as much as that; a
            later object takes them from an earlier one (mmdetection's Mask R-CNN).
    """

    positive: float = 0.5
    match_low_quality: bool = False

    @torch.no_grad()
    def __call__(self, proposals: Proposals, targets: Targets) -> Assignment:
        """`(N, M)`; an object's own box learns that object, and what does not exist is `IGNORED`."""
        matched = torch.full_like(proposals.objects, BACKGROUND)
        if len(targets.boxes):
            objects = Proposals.listed(
                targets.boxes.double(), targets.boxes.new_ones(len(targets.boxes)), targets.image, targets.num_images
            )
            counts = objects.valid.sum(dim=1)
            first = (counts.cumsum(0) - counts)[:, None]
            iou = pairwise_iou(proposals.boxes.double(), objects.boxes)  # (N, M, G of an image)
            iou = iou.masked_fill(~objects.valid[:, None], -1)
            best, place = iou.max(dim=2)
            matched = torch.where(best >= self.positive, place + first, matched)
            if self.match_low_quality:
                among = iou.masked_fill(~(proposals.valid & (proposals.objects < 0))[..., None], -1)
                highest = among.amax(dim=1, keepdim=True)
                tied = (among == highest) & (highest >= self.positive)
                last = torch.arange(1, tied.shape[2] + 1, device=tied.device).mul(tied).amax(dim=2) - 1
                matched = torch.where(last >= 0, last + first, matched)
        matched = torch.where(proposals.objects >= 0, proposals.objects, matched)
        candidates = Candidates(own=proposals.boxes, valid=proposals.valid)
        assignment = ignore_background(Assignment(matched), candidates, targets)
        return Assignment(assignment.matched.masked_fill(~proposals.valid, IGNORED))
