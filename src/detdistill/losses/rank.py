"""Losses on how a detector ranks the candidates of each object, all objects of a batch at once.

A candidate is a prior that is positive for an object. Its score is that object's class score, or whatever else the
detector is to rank by. Candidates come in any order, each with the index of its object; an object may have none.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.precision import at_least_float32
from detdistill.core.structures import ReduceSum, single_process

SMALLEST_WEIGHT = 1e-6
"""Least sum of an objects' weights that is divided by."""


def segment_log_softmax(scores: Tensor, segment: Tensor, num_segments: int) -> Tensor:
    """The logarithm of a softmax over the scores of each segment.

    Args:
        scores: `(K,)`.
        segment: `(K,)` int64, 0 to num_segments - 1, in any order.
        num_segments: segments may be empty.

    Returns:
        `(K,)`, at most 0.
    """
    scores = at_least_float32(scores)
    lowest = scores.new_full((num_segments,), -torch.inf)
    maximum = lowest.scatter_reduce(0, segment, scores.detach(), reduce="amax")
    shifted = scores - maximum.gather(0, segment)
    total = scores.new_zeros(num_segments).scatter_add(0, segment, shifted.exp())
    return shifted - total.gather(0, segment).log()  # the logarithm of an empty segment's total has no gradient


def rank_mimicking(
    student: Tensor,
    teacher: Tensor,
    instance: Tensor,
    *,
    temperature: float = 1.0,
    weights: Tensor | None = None,
    reduce_sum: ReduceSum = single_process,
) -> Tensor:
    """T² · KL(teacher ‖ student) of each object's rank distribution, mean over objects that have candidates.

    Rank Mimicking (Li et al., Knowledge Distillation for Object Detection via Rank Mimicking and Prediction-guided
    Feature Imitation, AAAI 2022): the rank distribution is the softmax of the scores of an object's candidates. The
    authors published no code; that an object without candidates is left out of the mean, and T, are choices made here.

    Args:
        student: `(K,)` scores of the candidates, logits or probabilities.
        teacher: `(K,)` the teacher's scores of the same candidates; no gradient flows into them.
        instance: `(K,)` int64: each candidate's object, an index into the batch's `Targets`.
        temperature: T, above 0; both softmaxes take scores / T.
        weights: `(G,)` at least 0, of each object, for a weighted mean over the objects that have candidates; G is
            above every `instance`. None weighs all the same.
        reduce_sum: over all processes.

    Returns:
        Scalar, at least 0: this process's share. Without candidates it is 0 and still depends on `student`.

    Raises:
        DetdistillError: shapes differ, or an index is negative.
    """
    sizes = _candidates_per_object(student, teacher, instance)
    student, teacher = at_least_float32(student) / temperature, at_least_float32(teacher.detach()) / temperature
    log_student = segment_log_softmax(student, instance, len(sizes))
    log_teacher = segment_log_softmax(teacher, instance, len(sizes))
    if weights is None:
        divergence = F.kl_div(log_student, log_teacher, reduction="sum", log_target=True)
        num_instances = reduce_sum((sizes > 0).sum().to(divergence.dtype))
        return divergence * temperature**2 / num_instances.clamp(min=1)
    own = at_least_float32(weights.detach())
    divergences = F.kl_div(log_student, log_teacher, reduction="none", log_target=True)
    total = reduce_sum((own[: len(sizes)] * (sizes > 0)).sum())
    return (divergences * own[instance]).sum() * temperature**2 / total.clamp(min=SMALLEST_WEIGHT)


def plackett_luce(
    student: Tensor, teacher: Tensor, instance: Tensor, *, reduce_sum: ReduceSum = single_process
) -> Tensor:
    """How unlikely the teacher's order of each object's candidates is under the student, mean over objects.

    An extension of this package without a published source for detection: the likelihood loss of ListMLE (Xia et al.,
    Listwise Approach to Learning to Rank, ICML 2008), the Plackett-Luce model of choosing the best of what is left,
    again and again. Each choice weighs 1 / log2(1 + position), the discount of Järvelin and Kekäläinen (Cumulated
    Gain-based Evaluation of IR Techniques, TOIS 2002), and an object's choices are averaged by these weights, so that
    the top counts most and long lists count no more than short ones. Of the teacher's scores only the order matters.

    Args:
        student: `(K,)` scores of the candidates, best as logits.
        teacher: `(K,)` the teacher's scores of the same candidates; equal ones keep the order they are given in.
        instance: `(K,)` int64: each candidate's object, an index into the batch's `Targets`.
        reduce_sum: over all processes.

    Returns:
        Scalar, at least 0 and only near 0 where the student is sure of the teacher's order: this process's share.
        Without candidates it is 0 and still depends on `student`.

    Raises:
        DetdistillError: shapes differ, or an index is negative.
    """
    sizes = _candidates_per_object(student, teacher, instance)
    best_first = teacher.argsort(descending=True, stable=True)
    worst_first = best_first.flip(0)
    order = worst_first[instance[worst_first].argsort(stable=True)]

    scores, row = at_least_float32(student)[order], instance[order]
    column = torch.arange(len(row), device=row.device) - (sizes.cumsum(0) - sizes)[row]
    # Padding comes after an object's candidates, where no cumulative sum that is read has reached it.
    lists = scores.new_zeros(len(sizes), max(sizes.tolist(), default=0)).index_put((row, column), scores)
    log_remaining = lists.logcumsumexp(dim=1)[row, column]

    position = (sizes[row] - column).to(scores.dtype)
    discount = 1 / (1 + position).log2()
    total_discount = scores.new_zeros(len(sizes)).scatter_add(0, row, discount)
    unlikelihood = (discount / total_discount[row] * (log_remaining - scores)).sum()
    num_instances = reduce_sum((sizes > 0).sum().to(unlikelihood.dtype))
    return unlikelihood / num_instances.clamp(min=1)


def _candidates_per_object(student: Tensor, teacher: Tensor, instance: Tensor) -> Tensor:
    """How many candidates each object has, up to the last object that has any; raises if the arguments do not fit."""
    if student.dim() != 1 or not student.shape == teacher.shape == instance.shape:
        raise DetdistillError(
            f"a ranking needs one score of each detector and one object per candidate: student {tuple(student.shape)}, "
            f"teacher {tuple(teacher.shape)}, instance {tuple(instance.shape)}; take all three at the same candidates, "
            "as (K,)"
        )
    if (instance < 0).any():
        raise DetdistillError(
            f"instance: {int(instance.min())} is no object; leave background and ignored priors out, as "
            "Assignment.positive does"
        )
    return instance.bincount()
