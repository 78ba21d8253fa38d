"""A two-stage detector, as small as it gets: the dense stage proposes, a second stage reads the mean of a map."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from examples.own_detector import STRIDE, TinyDetector
from torch import Tensor, nn
from torchvision.ops import batched_nms, roi_align

from detdistill.core.boxes import clip_boxes, pairwise_iou
from detdistill.core.offers import DENSE_OFFERS
from detdistill.core.output import DENSE, Candidates, Output, Predictions
from detdistill.core.structures import (
    BACKGROUND,
    IGNORED,
    Assignment,
    Detections,
    Matches,
    ReduceSum,
    Targets,
    single_process,
)
from detdistill.detectors.ignoring import ignore_background

PROPOSALS, JITTERED = 6, 4
ROI = "roi"


class UnmovedBoxes:
    """A coder whose boxes are the proposals, moved by the regression in pixels."""

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:  # noqa: ARG002 (the contract's)
        return priors + regression


class TwoStageDetector(TinyDetector):
    """Proposals are the best dense boxes; in training also the objects, as they are and moved by part of a cell."""

    offers = DENSE_OFFERS | {"rois"}

    def __init__(self, classes: tuple[str, ...], width: int = 8) -> None:
        super().__init__(classes, width)
        self.roi_head = nn.Linear(width, len(classes) + 1 + 4)

    def forward(self, images: Tensor, targets: Targets | None = None) -> Output:
        dense = super().forward(images)
        predictions = dense.predictions
        boxes, valid = self._proposals(predictions, targets)
        boxes = clip_boxes(boxes, torch.tensor([images.shape[-2:]], device=boxes.device)[:, None])
        pooled = roi_align(dense.features.maps[0], list(boxes), 2, 1 / STRIDE).mean(dim=(2, 3))
        read = self.roi_head(pooled).view(*valid.shape, -1)
        stage = Predictions(
            Candidates(own=boxes, valid=valid), read[..., :-4], read[..., -4:], UnmovedBoxes(), activation="softmax"
        )
        return replace(dense, stages={DENSE: predictions, ROI: stage}, final=ROI)

    def _proposals(self, predictions: Predictions, targets: Targets | None) -> tuple[Tensor, Tensor]:
        best = predictions.scores().detach().amax(dim=-1).topk(PROPOSALS, dim=1).indices
        boxes = predictions.boxes().detach().gather(1, best[..., None].expand(-1, -1, 4))
        valid = torch.ones_like(best, dtype=torch.bool)
        if targets is None or targets.draws is None:
            return boxes, valid
        more = boxes.new_zeros(len(boxes), 2 * JITTERED, 4)
        there = torch.zeros(len(boxes), 2 * JITTERED, dtype=torch.bool, device=boxes.device)
        for position in range(len(boxes)):
            own = targets.boxes[targets.image == position][:JITTERED]
            noise = torch.rand(len(own), 4, generator=targets.draws.generator(position, ROI)).to(boxes) * STRIDE
            more[position, : 2 * len(own)] = torch.cat((own, own + noise))
            there[position, : 2 * len(own)] = True
        return torch.cat((boxes, more), dim=1), torch.cat((valid, there), dim=1)

    def match(self, output: Output, targets: Targets) -> Matches:
        candidates = output.predictions.candidates
        matched = torch.full(candidates.boxes.shape[:2], BACKGROUND, device=candidates.boxes.device)
        for position, boxes in enumerate(candidates.boxes):
            own = (targets.image == position).nonzero()[:, 0]
            if len(own):
                iou, best = pairwise_iou(boxes, targets.boxes[own]).max(dim=1)
                matched[position] = torch.where(iou >= 0.5, own[best], BACKGROUND)
        assert candidates.valid is not None
        matched = matched.masked_fill(~candidates.valid, IGNORED)
        dense = self.assigner(output.stages[DENSE].grid, targets)
        return {DENSE: dense, ROI: ignore_background(Assignment(matched), candidates, targets)}

    def loss(
        self, output: Output, targets: Targets, matches: Matches, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        dense = replace(output, final=DENSE)
        terms = super().loss(dense, targets, matches, reduce_sum)
        roi, assignment = output.predictions, matches[ROI]
        labels = assignment.labels(targets)
        columns = torch.where(labels == BACKGROUND, roi.num_classes, labels)
        losses = F.cross_entropy(roi.logits.flatten(0, 1), columns.flatten(), ignore_index=IGNORED, reduction="sum")
        count = reduce_sum((labels != IGNORED).sum().float()).clamp(min=1)
        positive = assignment.positive
        boxes = F.l1_loss(roi.boxes(positive), targets.boxes[assignment.positive_targets], reduction="sum")
        return {**terms, "roi_classification": losses / count, "roi_box": boxes / count}

    def detect(self, output: Output, sizes: Tensor) -> list[Detections]:
        roi = output.predictions
        found = []
        for scores, boxes, size in zip(roi.scores(), roi.boxes(), sizes, strict=True):
            candidate, label = (scores > self.postprocessing.score_threshold).nonzero(as_tuple=True)
            clipped = clip_boxes(boxes[candidate], size[None])
            real = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
            own, clipped, label = scores[candidate, label][real], clipped[real], label[real]
            keep = batched_nms(clipped, own, label, self.postprocessing.iou_threshold)
            found.append(Detections(clipped[keep], own[keep], label[keep]))
        return found
