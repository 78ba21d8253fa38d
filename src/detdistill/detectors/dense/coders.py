"""How heads write boxes as numbers: implementations of `structures.BoxCoder`, each with its inverse for the losses.

Priors are `(…, 4)` and strides `(…,)`, both in pixels; the leading dimensions of all arguments broadcast.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from detdistill.core.boxes import (
    LOG_SCALES,
    Deviations,
    box_centers,
    boxes_to_distances,
    decode_deltas,
    distances_to_boxes,
    encode_deltas,
)
from detdistill.losses.distribution import expected_distance

LAST_BIN_MARGIN = 0.1
"""Bins; keeps a clamped target strictly between two bins, where distribution focal loss needs it (GFL's own value)."""


@dataclass(frozen=True)
class DeltaCoder:
    """Offsets and log scales from an anchor (RetinaNet, ATSS, EfficientDet).

    Attributes:
        stds: what dx, dy, dw and dh are divided by.
        log_scales: lowest and highest natural logarithm of a side's factor.
    """

    stds: Deviations = (1.0, 1.0, 1.0, 1.0)
    log_scales: tuple[float, float] = LOG_SCALES

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:  # noqa: ARG002 (the contract's)
        """`(…, 4)` boxes from deltas `(…, 4)`."""
        return decode_deltas(priors, regression, self.stds, self.log_scales)

    def encode(self, priors: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:  # noqa: ARG002 (the contract's)
        """`(…, 4)` deltas of boxes `(…, 4)`."""
        return encode_deltas(priors, boxes, self.stds)


@dataclass(frozen=True)
class DistanceCoder:
    """Distances left, top, right, bottom from the prior's centre (FCOS, VFNet).

    Attributes:
        unit: a distance of 1 is one pixel, or one stride of the prior's level.
    """

    unit: Literal["pixel", "stride"] = "pixel"

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        """`(…, 4)` boxes from distances `(…, 4)`."""
        distances = regression * strides[..., None] if self.unit == "stride" else regression
        return distances_to_boxes(box_centers(priors), distances)

    def encode(self, priors: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
        """`(…, 4)` distances to boxes `(…, 4)`, negative where the centre lies outside of them."""
        distances = boxes_to_distances(box_centers(priors), boxes)
        return distances / strides[..., None] if self.unit == "stride" else distances


@dataclass(frozen=True)
class DistributionCoder:
    """Each distance as a distribution over whole strides 0, 1, … (Generalized Focal Loss, NeurIPS 2020).

    Attributes:
        bins: number of bins of each distribution.
    """

    bins: int = 17

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        """`(…, 4)` boxes from logits `(…, 4 * bins)`, one side after the other."""
        distances = expected_distance(regression.reshape(*regression.shape[:-1], 4, self.bins))
        return DistanceCoder("stride").decode(priors, strides, distances)

    def encode(self, priors: Tensor, strides: Tensor, boxes: Tensor) -> Tensor:
        """`(…, 4)` the bins that the distances to boxes `(…, 4)` fall on, with fractions, clamped to what bins hold."""
        distances = DistanceCoder("stride").encode(priors, strides, boxes)
        return distances.clamp(0, self.bins - 1 - LAST_BIN_MARGIN)
