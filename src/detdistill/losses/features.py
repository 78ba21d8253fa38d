"""Losses between feature maps that look at each channel as a whole, or at where and in which channels maps are strong.

Maps are `(N, Q, H, W)`, the teacher's of the same shape as the student's; no gradient flows into the teacher's. As in
the authors' code, padding counts like any other cell.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.precision import at_least_float32
from detdistill.core.structures import ReduceSum, single_process
from detdistill.losses.imitation import check_levels

EPSILON = 1e-6
"""Added to the standard deviation of a channel before it is divided by."""


def channel_statistics(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased standard deviation of each channel over all cells of all images, `(1, Q, 1, 1)` each.

    The deviation of a single cell is 0.
    """
    features = at_least_float32(features)
    cells = features.numel() // features.shape[1]
    deviation, mean = torch.std_mean(features, dim=(0, 2, 3), correction=min(1, cells - 1), keepdim=True)
    return mean, deviation


def standardized(features: Tensor) -> Tensor:
    """`(N, Q, H, W)` with every channel's mean 0 and standard deviation 1; a constant channel becomes 0."""
    mean, deviation = channel_statistics(features)
    return (features - mean) / (deviation + EPSILON)


def pearson_imitation(
    student: Sequence[Tensor], teacher: Sequence[Tensor], *, reduce_sum: ReduceSum = single_process
) -> Tensor:
    """Half the mean squared difference of standardised channels, summed over levels.

    PKD (Cao et al., Pearson Correlation Coefficient, NeurIPS 2022): with n cells it is (n - 1) / n · (1 - r), r being
    the correlation of student and teacher, averaged over channels. A channel's mean and deviation are those of this
    process's images, as in the authors' code; only the average is taken over all processes.

    Args:
        student: L x `(N, Q, H, W)`.
        teacher: L x `(N, Q, H, W)`.
        reduce_sum: over all processes.

    Returns:
        Scalar, 0 to 2 L: this process's share.

    Raises:
        DetdistillError: the number of levels or a level's shapes differ.
    """
    check_levels(student=student, teacher=teacher)
    sums = torch.stack(
        [
            F.mse_loss(standardized(own), standardized(other.detach()), reduction="sum") / 2
            for own, other in zip(student, teacher, strict=True)
        ]
    )
    return (sums / reduce_sum(sums.new_tensor([level.numel() for level in student]))).sum()


def channel_wise_divergence(
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    temperature: float = 1.0,
    *,
    reduce_sum: ReduceSum = single_process,
) -> Tensor:
    """T² · KL(teacher ‖ student) of each channel's softmax over cells, averaged over channels, summed over levels.

    CWD (Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021).

    Args:
        student: L x `(N, Q, H, W)`.
        teacher: L x `(N, Q, H, W)`.
        temperature: T, above 0; both softmaxes take values / T.
        reduce_sum: over all processes.

    Returns:
        Scalar, at least 0: this process's share of the mean over images.

    Raises:
        DetdistillError: the number of levels or a level's shapes differ.
    """
    check_levels(student=student, teacher=teacher)
    divergences = []
    for own, other in zip(student, teacher, strict=True):
        log_own, log_other = (
            (at_least_float32(level).flatten(2) / temperature).log_softmax(dim=-1) for level in (own, other.detach())
        )
        divergence = F.kl_div(log_own, log_other, reduction="sum", log_target=True)
        divergences.append(divergence * temperature**2 / own.shape[1])
    total = torch.stack(divergences).sum()
    return total / reduce_sum(total.new_tensor(len(student[0])))


def spatial_attention(features: Tensor, temperature: float) -> Tensor:
    """Where a map is strong: H W times the softmax over cells of its mean |value| over channels / T.

    FGD (Yang et al., Focal and Global Knowledge Distillation for Detectors, CVPR 2022).

    Args:
        features: `(N, Q, H, W)`.
        temperature: T, above 0.

    Returns:
        `(N, H, W)`, 1 on average.
    """
    strength = at_least_float32(features).abs().mean(dim=1)
    attention = (strength.flatten(1) / temperature).softmax(dim=1) * strength[0].numel()
    return attention.view_as(strength)


def channel_attention(features: Tensor, temperature: float) -> Tensor:
    """Which channels of a map are strong: Q times the softmax over channels of their mean |value| / T (FGD, CVPR 2022).

    Args:
        features: `(N, Q, H, W)`.
        temperature: T, above 0.

    Returns:
        `(N, Q)`, 1 on average.
    """
    strength = at_least_float32(features).abs().mean(dim=(2, 3))
    return (strength / temperature).softmax(dim=1) * strength.shape[1]


LEAST_RELATED = 3
"""Of two things there is one distance, which its own mean makes 1 on both sides."""


def relation_imitation(student: Tensor, teacher: Tensor) -> Tensor:
    """The difference of the distances between K things, smooth L1, averaged over all pairs.

    Dai et al., General Instance Distillation for Object Detection, CVPR 2021. On each side distances are
    Euclidean, divided by the mean of those that are not 0, so that only their proportions count.

    Args:
        student: `(K, D)` features, a row for each thing.
        teacher: `(K, D')`; no gradient flows into them.

    Returns:
        Scalar, at least 0; 0 for fewer than three things.
    """
    student, teacher = at_least_float32(student), at_least_float32(teacher.detach())
    if len(student) < LEAST_RELATED:
        return 0 * student.sum()
    return F.smooth_l1_loss(_proportions(student), _proportions(teacher))


def _proportions(features: Tensor) -> Tensor:
    """`(K (K − 1) / 2,)` distances over their mean."""
    distances = torch.pdist(features)
    return distances * (distances > 0).sum() / distances.sum().clamp(min=torch.finfo(distances.dtype).tiny)
