"""Which candidates of a stage learn in a step: a random few, as many negative as positive ones allow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.structures import BACKGROUND, Assignment

_NO_SEED = 0
"""Of the draws outside of a run."""


class Sampler(Protocol):
    """Chooses among the candidates of one image."""

    def __call__(self, matched: Tensor, generator: torch.Generator) -> Tensor:
        """`(M,)` bool: the candidates that learn.

        Args:
            matched: `(M,)` as of `Assignment`, on the CPU; candidates that are neither positive nor background are
                never chosen.
            generator: of random numbers.
        """


@dataclass(frozen=True)
class RandomSampler:
    """Takes as many positives as allowed, and fills up with background (Girshick, Fast R-CNN, ICCV 2015, section 2.3).

    Attributes:
        count: candidates of an image, at most.
        positive_share: largest share of positives among them.
    """

    count: int
    positive_share: float

    def __call__(self, matched: Tensor, generator: torch.Generator) -> Tensor:
        """`(M,)` bool: the candidates that learn."""
        chosen = torch.zeros(len(matched), dtype=torch.bool)
        positive, negative = ((matched >= 0).nonzero().squeeze(1), (matched == BACKGROUND).nonzero().squeeze(1))
        positive = _some(positive, int(self.count * self.positive_share), generator)
        chosen[positive] = True
        chosen[_some(negative, self.count - len(positive), generator)] = True
        return chosen


def _some(indices: Tensor, count: int, generator: torch.Generator) -> Tensor:
    if len(indices) <= count:
        return indices
    return indices[torch.randperm(len(indices), generator=generator)[:count]]


def sampled(sampler: Sampler, assignment: Assignment, draws: Draws | None, purpose: str) -> Tensor:
    """`(N, M)` bool: the candidates of each image that learn, drawn image by image.

    Args:
        sampler: chooses.
        assignment: of the candidates.
        draws: of the step; None outside of a run, where the same are drawn each time.
        purpose: what is drawn; see `Draws.generator`.
    """
    matched = assignment.matched.cpu()
    rows = []
    for number, row in enumerate(matched):
        generator = torch.Generator().manual_seed(_NO_SEED) if draws is None else draws.generator(number, purpose)
        rows.append(sampler(row, generator))
    return torch.stack(rows).to(assignment.matched.device)
