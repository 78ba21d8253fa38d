"""Losses on distances that a head writes as distributions over integer bins (GFL, LD)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.precision import at_least_float32


def expected_distance(logits: Tensor) -> Tensor:
    """The expected bin of each distribution (Li et al., Generalized Focal Loss, NeurIPS 2020, eq. 5).

    Args:
        logits: `(…, bins)` before the softmax.

    Returns:
        `(…,)`, 0 to bins - 1, in units of bins.
    """
    probabilities = at_least_float32(logits).softmax(dim=-1)
    bins = torch.arange(logits.shape[-1], device=logits.device, dtype=probabilities.dtype)
    return (probabilities * bins).sum(dim=-1)  # a matrix product would be cut to half precision by autocast


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Cross entropy with the two bins around the target, weighted by closeness (GFL, NeurIPS 2020, eq. 6).

    Args:
        logits: `(…, bins)` before the softmax.
        target: `(…,)` in units of bins, at least 0 and less than bins - 1.

    Returns:
        `(…,)`, at least 0.
    """
    log_probabilities = at_least_float32(logits).log_softmax(dim=-1)
    target = at_least_float32(target)
    lower = target.long()
    weight_upper = target - lower
    log_lower = log_probabilities.gather(-1, lower[..., None]).squeeze(-1)
    log_upper = log_probabilities.gather(-1, lower[..., None] + 1).squeeze(-1)
    return -((1 - weight_upper) * log_lower + weight_upper * log_upper)


def distribution_kl(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T² · KL(teacher ‖ student) of tempered distributions, averaged over bins (Zheng et al., LD, CVPR 2022).

    The mean over bins, not the sum that defines the divergence, is the form for which the published weights were set.

    Args:
        student: `(…, bins)` logits.
        teacher: `(…, bins)` logits; no gradient flows into them.
        temperature: T, above 0; both softmaxes take logits / T.

    Returns:
        `(…,)`, at least 0.
    """
    log_student = (at_least_float32(student) / temperature).log_softmax(dim=-1)
    log_teacher = (at_least_float32(teacher.detach()) / temperature).log_softmax(dim=-1)
    divergence = F.kl_div(log_student, log_teacher, reduction="none", log_target=True)
    return divergence.mean(dim=-1) * temperature**2
