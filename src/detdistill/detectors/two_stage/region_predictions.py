"""What a region head predicts for proposals.

Letters in shapes: N images, P proposals that the head looked at, C classes, K chosen ones.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from detdistill.core.output import Predictions
from detdistill.core.precision import at_least_float32
from detdistill.detectors.two_stage.masks import MaskPredictions
from detdistill.detectors.two_stage.proposals import Proposals


@dataclass(frozen=True, eq=False)
class RegionPredictions(Predictions):
    """Those of one stage of region heads: softmax scores, and a box for each class or one for all.

    `regression` is `(N, P, 4)`, or `(N, P, 4 C)` class by class; then a proposal's own box is that of its best class.

    Attributes:
        pool: what the proposals were chosen from, in training: all proposals and the objects' own boxes; else None.
        place: `(N, P)` int64 where each of them stands in the pool.
        learns: `(N, P)` bool, which of them the detection loss is of; None for all.
        masks: of the positives among these, in training of a detector with a mask branch; else None.
    """

    pool: Proposals | None = None
    place: Tensor | None = None
    learns: Tensor | None = None
    masks: MaskPredictions | None = None

    @property
    def has_class_boxes(self) -> bool:
        """Whether each class has a box of its own."""
        return self.activation == "softmax" and self.regression.shape[-1] == 4 * self.num_classes > 4

    def deltas(self, index: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """`(K, 4)` raw numbers of the box of a class, by image, proposal and class, each `(K,)`."""
        rows = self.regression[index[:2]]
        return _of_class(rows, index[2]) if self.has_class_boxes else rows

    def boxes(self, index: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Boxes of the best class, `(K, 4)`, or `(N, P, 4)` for all; see `Predictions.boxes`."""
        candidates = self.candidates
        logits, raw = self.logits, self.regression
        priors = candidates.boxes
        if index is not None:
            logits, raw, priors = logits[index], raw[index], candidates.at(index)
        if self.has_class_boxes:
            raw = _of_class(raw, logits[..., :-1].argmax(dim=-1))
        return self.coder.decode(priors, priors.new_ones(priors.shape[:-1]), at_least_float32(raw))

    def with_class_logits(self, logits: Tensor) -> Self:
        """The same with other classes, `(N, P, C)` logits for sigmoid; a proposal keeps the box of its best class."""
        raw = self.regression
        if self.has_class_boxes:
            raw = _of_class(raw, self.logits[..., :-1].argmax(dim=-1))
        return replace(self, logits=logits, activation="sigmoid", regression=raw)

    def class_boxes(self, index: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """`(K, 4)` boxes of a class, by image, proposal and class, each `(K,)`."""
        priors = self.candidates.at(index[:2])
        return self.coder.decode(priors, priors.new_ones(priors.shape[:-1]), at_least_float32(self.deltas(index)))


def _of_class(rows: Tensor, label: Tensor) -> Tensor:
    """`(…, 4)` of rows `(…, 4 C)`, the numbers of class `label` `(…,)`."""
    place = 4 * label[..., None] + torch.arange(4, device=label.device)
    return rows.gather(-1, place)


def in_rows(values: Tensor, valid: Tensor) -> Tensor:
    """`(N, P, …)` of values `(K, …)`, one for each `valid` `(N, P)` place in order; 0 elsewhere."""
    rows = values.new_zeros(*valid.shape, *values.shape[1:])
    return rows.index_put(valid.nonzero(as_tuple=True), values)


def averaged(stages: list[RegionPredictions], *, probabilities: bool) -> RegionPredictions:
    """The last of several stages with the scores of all: their mean logits, or the mean of their probabilities."""
    logits = torch.stack([at_least_float32(stage.logits) for stage in stages])
    mean = logits.softmax(dim=-1).mean(dim=0).log() if probabilities else logits.mean(dim=0)
    return replace(stages[-1], logits=mean)
