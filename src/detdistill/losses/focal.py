"""The focal family: losses of sigmoid class logits, elementwise or per candidate; the caller weights and normalises.

Nearly all entries of a dense detector are background, so each loss runs one fused formula over all entries and
replaces the few positives' values: no one-hot tensor, and one saved tensor for the backward pass. Ignored candidates
cost nothing and get no gradient.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from detdistill.core.precision import at_least_float32
from detdistill.core.structures import IGNORED


def _softplus(logits: Tensor) -> Tensor:
    """log(1 + eˣ) = max(x, 0) + 2 artanh(e / (2 + e)) where e = exp(−|x|), to full precision.

    torch computes softplus and log1p number by number on CPUs; this is several times as fast there.
    """
    small = logits.abs().neg_().exp_()
    return small.div_(small + 2).atanh_().mul_(2).add_(logits.clamp(min=0))


class _BackgroundLoss(torch.autograd.Function):
    """scale · σ(x)^γ · (softplus(x) − s x): how wrong a logit is whose target s is 0 or small, by its own confidence.

    The derivative, scale · σ(x)^γ · (γ (1 − σ(x)) (softplus(x) − s x) + σ(x) − s), is cheapest while the parts are at
    hand. Both are 0 for candidates that are ignored: `(…,)` bool, or None.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, gamma: float, scale: float, ignored: Tensor | None, target: float) -> Tensor:
        probability = logits.sigmoid()
        cross_entropy = _softplus(logits)
        if target:
            cross_entropy.sub_(logits, alpha=target)
        slope = torch.addcmul(cross_entropy, probability, cross_entropy, value=-1).mul_(gamma).add_(probability)
        if target:
            slope.sub_(target)
        modulation = probability.pow_(gamma).mul_(scale)
        if ignored is not None:
            modulation[ignored] = 0
        ctx.save_for_backward(slope.mul_(modulation))
        return cross_entropy.mul_(modulation)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        (derivative,) = ctx.saved_tensors
        return grad * derivative, None, None, None, None


def _background_loss(
    logits: Tensor, gamma: float, scale: float, ignored: Tensor | None = None, target: float = 0.0
) -> Tensor:
    loss: Tensor = _BackgroundLoss.apply(logits, gamma, scale, ignored, target)
    return loss


def _positives(labels: Tensor) -> tuple[Tensor, ...]:
    """The index, leading dimensions and class, of the entries `(…, C)` that labels `(…,)` name."""
    candidates = (labels >= 0).nonzero(as_tuple=True)
    return (*candidates, labels[candidates])


def focal_loss(
    logits: Tensor, labels: Tensor, alpha: float = 0.25, gamma: float = 2.0, label_smoothing: float = 0.0
) -> Tensor:
    """Focal loss (Lin et al., ICCV 2017, eq. 5).

    Args:
        logits: `(…, C)` before the sigmoid.
        labels: `(…,)` int64, 0 to C - 1, `BACKGROUND` (-1), or `IGNORED` (-2): the candidate costs nothing.
        alpha: weight of positive entries; 1 - alpha is that of all others.
        gamma: power of the modulation, at least 0.
        label_smoothing: the targets of the cross entropy are half of this, and 1 minus half of this; weights and
            modulation are those of 0 and 1 (google/automl's EfficientDet). 0 to 1.

    Returns:
        `(…, C)`, at least 0.
    """
    logits = at_least_float32(logits)
    positives = _positives(labels)
    loss = _background_loss(logits, gamma, 1 - alpha, labels == IGNORED, label_smoothing / 2)
    loss[positives] = _background_loss(-logits[positives], gamma, alpha, target=label_smoothing / 2)
    return loss


def quality_focal_loss(logits: Tensor, labels: Tensor, quality: Tensor, beta: float = 2.0) -> Tensor:
    """Quality focal loss (Li et al., Generalized Focal Loss, NeurIPS 2020, eq. 2).

    GFLv2's classifier is a product of two probabilities: give the logit of that product.

    Args:
        logits: `(…, C)` before the sigmoid.
        labels: `(…,)` int64, 0 to C - 1, `BACKGROUND` (-1), or `IGNORED` (-2): the candidate costs nothing.
        quality: `(…,)` IoU of the decoded box, 0 to 1, the target of a positive's entry; not read at the background.
        beta: power of the modulation |quality - probability|, at least 1.

    Returns:
        `(…,)` sum over classes, at least 0.
    """
    logits = at_least_float32(logits)
    positives = _positives(labels)
    loss = _background_loss(logits, beta, 1.0, labels == IGNORED)
    positive, target = logits[positives], at_least_float32(quality)[positives[:-1]]
    modulation = (target - positive.sigmoid()).abs().pow(beta)
    loss[positives] = modulation * F.binary_cross_entropy_with_logits(positive, target, reduction="none")
    return loss.sum(dim=-1)


def varifocal_loss(
    logits: Tensor,
    target: Tensor,
    alpha: float = 0.75,
    gamma: float = 2.0,
    *,
    iou_weighted: bool = True,
    ignored: Tensor | None = None,
) -> Tensor:
    """Varifocal loss (Zhang et al., VarifocalNet, CVPR 2021, eq. 2).

    Args:
        logits: `(…, C)` before the sigmoid.
        target: `(…, C)` IoU of the decoded box at a positive's class, 0 elsewhere.
        alpha: weight of the entries whose target is 0.
        gamma: power of their modulation, at least 0.
        iou_weighted: weight a positive's entry by its target, else by 1.
        ignored: `(…,)` bool, candidates without a positive that cost nothing; None for none.

    Returns:
        `(…, C)`, at least 0.
    """
    logits, target = at_least_float32(logits), at_least_float32(target)
    positives = target.nonzero(as_tuple=True)
    loss = _background_loss(logits, gamma, alpha, ignored)
    iou = target[positives]
    cross_entropy = F.binary_cross_entropy_with_logits(logits[positives], iou, reduction="none")
    loss[positives] = iou * cross_entropy if iou_weighted else cross_entropy
    return loss
