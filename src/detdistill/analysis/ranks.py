"""Observation 1 (Li et al., AAAI 2022): how differently two detectors rank the candidates of one object.

Lists of one length are padded: `(G, K)` with a mask of what counts. G objects, K candidates of the longest list.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

PAIRS_AT_A_TIME = 2**22
"""Entries of the largest tensor of pairs of candidates, one byte or four each."""


@dataclass(frozen=True, eq=False)
class Agreement:
    """How two lists of scores agree, for each object; NaN where a list is too short or all its scores are tied.

    Attributes:
        tau: `(G,)` Kendall's tau-b, -1 to 1.
        rho: `(G,)` Spearman's rho, -1 to 1.
    """

    tau: Tensor
    rho: Tensor


def padded(values: Tensor, objects: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Lists of several objects side by side.

    Args:
        values: `(N,)`.
        objects: `(N,)` int64, the object of each value, ascending.
        count: G.

    Returns:
        The values `(G, K)`, 0 where a list has ended, and the mask `(G, K)` of what belongs to a list.
    """
    lengths = torch.bincount(objects, minlength=count)
    longest = int(lengths.max()) if count else 0
    starts = lengths.cumsum(0) - lengths
    place = torch.arange(len(objects), device=objects.device) - starts[objects]
    lists = values.new_zeros(count, longest)
    lists[objects, place] = values
    mask = torch.arange(longest, device=objects.device) < lengths[:, None]
    return lists, mask


def agreement(first: Tensor, second: Tensor, mask: Tensor) -> Agreement:
    """Rank correlations of two lists of scores of the same candidates.

    Kendall's tau-b is Σ sign(xᵢ − xⱼ)·sign(yᵢ − yⱼ) over the pairs, over the geometric mean of the numbers of pairs
    that are not tied in x and in y (Kendall, Biometrika 1945). Spearman's rho is Pearson's correlation of the ranks,
    ties at their mean rank; a candidate's rank is half its sum of signs, but for a constant.

    Args:
        first: scores `(G, K)`.
        second: scores `(G, K)`.
        mask: `(G, K)` bool.
    """
    at_a_time = max(1, PAIRS_AT_A_TIME // max(1, first.shape[1]) ** 2)
    parts = [
        _correlations(*group)
        for group in zip(*(torch.split(each, at_a_time) for each in (first, second, mask)), strict=True)
    ]
    tau, rho = (torch.cat(values) for values in zip(*parts, strict=True)) if parts else (first.new_zeros(0),) * 2
    return Agreement(tau, rho)


def _correlations(first: Tensor, second: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    both = mask[:, :, None] & mask[:, None, :]
    signs = [(scores[:, :, None] - scores[:, None, :]).sign() * both for scores in (first, second)]
    untied = [sign.abs().sum(dim=(1, 2)) for sign in signs]
    tau = (signs[0] * signs[1]).sum(dim=(1, 2)) / (untied[0] * untied[1]).sqrt()
    ranks = [sign.sum(dim=2) for sign in signs]  # their mean is 0
    rho = (ranks[0] * ranks[1]).sum(dim=1) / (ranks[0].square().sum(dim=1) * ranks[1].square().sum(dim=1)).sqrt()
    return tau, rho


def divergence(own: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """`(G,)` Rank Mimicking's loss of each object, KL(softmax(other) || softmax(own)) over its candidates.

    Args:
        own: the student's scores `(G, K)`.
        other: the teacher's.
        mask: `(G, K)` bool.
    """
    logs = [scores.masked_fill(~mask, -torch.inf).log_softmax(dim=1).masked_fill(~mask, 0.0) for scores in (own, other)]
    return (logs[1].exp() * (logs[1] - logs[0]) * mask).sum(dim=1)


def best(scores: Tensor, mask: Tensor) -> Tensor:
    """`(G,)` the place of the best candidate in each list, the first of several."""
    return scores.masked_fill(~mask, -torch.inf).argmax(dim=1)
