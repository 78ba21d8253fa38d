"""The detection losses of both stages, over the candidates that learn."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.output import Predictions
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import BACKGROUND, Assignment, ReduceSum, Targets
from detdistill.detectors.dense.coders import DeltaCoder
from detdistill.detectors.two_stage.region_predictions import RegionPredictions


def proposal_losses(
    predictions: Predictions,
    targets: Targets,
    assignment: Assignment,
    learns: Tensor,
    *,
    coder: DeltaCoder,
    smoothness: float,
    least: int,
    reduce_sum: ReduceSum,
) -> dict[str, Tensor]:
    """`proposal_object`: binary cross entropy; `proposal_box`: smooth L1 on deltas of positives; over all that learn.

    Args:
        predictions: on a grid, of the one class "object".
        targets: the objects.
        assignment: of the anchors.
        learns: `(N, P)` bool, the anchors that were sampled.
        coder: writes boxes as deltas.
        smoothness: β of the smooth L1 loss, at least 0.
        least: for the normaliser an image has at least so many positives, and as many negatives (mmdetection: 1).
        reduce_sum: sums counts over processes.
    """
    positive = (assignment.matched >= 0) & learns
    counts = (positive.sum(dim=1).clamp(min=least) + (learns & ~positive).sum(dim=1).clamp(min=least)).sum()
    count = reduce_sum(counts.float()).clamp(min=1)
    logits = at_least_float32(predictions.logits[..., 0])
    crossed = F.binary_cross_entropy_with_logits(logits[learns], positive[learns].to(logits.dtype), reduction="sum")
    image, prior = positive.nonzero(as_tuple=True)
    index = image, prior
    priors = predictions.priors(index)
    goals = coder.encode(priors, torch.ones_like(priors[:, 0]), targets.boxes[assignment.matched[index]])
    raw = at_least_float32(predictions.regression[index])
    distance = F.smooth_l1_loss(raw, goals.to(raw.dtype), reduction="sum", beta=smoothness)
    return {"proposal_object": crossed / count, "proposal_box": distance / count}


def region_losses(
    predictions: RegionPredictions,
    targets: Targets,
    assignment: Assignment,
    *,
    coder: DeltaCoder,
    smoothness: float,
    reduce_sum: ReduceSum,
) -> dict[str, Tensor]:
    """`classification`: cross entropy; `box`: smooth L1 on the deltas of positives; both over all that learn.

    Args:
        predictions: of one stage.
        targets: the objects.
        assignment: of its proposals.
        coder: writes boxes as deltas.
        smoothness: β of the smooth L1 loss, at least 0.
        reduce_sum: sums counts over processes.
    """
    labels = assignment.labels(targets)
    learns = labels >= BACKGROUND
    if predictions.learns is not None:
        learns = learns & predictions.learns
    count = reduce_sum(learns.sum().float()).clamp(min=1)
    goals = torch.where(labels >= 0, labels, predictions.num_classes)[learns]
    crossed = F.cross_entropy(at_least_float32(predictions.logits[learns]), goals, reduction="sum")
    image, place = ((labels >= 0) & learns).nonzero(as_tuple=True)
    index = image, place
    priors = predictions.priors(index)
    deltas = coder.encode(priors, torch.ones_like(priors[:, 0]), targets.boxes[assignment.matched[index]])
    raw = at_least_float32(predictions.deltas((image, place, labels[index])))
    distance = F.smooth_l1_loss(raw, deltas.to(raw.dtype), reduction="sum", beta=smoothness)
    return {"classification": crossed / count, "box": distance / count}
