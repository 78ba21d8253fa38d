"""What every part of the toolkit shares: a detector's output, ground truth, assignment, detections.

Boxes are x1 y1 x2 y2 in pixels of the batch canvas. Sizes are (height, width). Letters in shapes:
N images, L pyramid levels, A anchors per cell, P priors (all cells of all levels, times A), C classes,
Q feature channels, G ground-truth objects of the whole batch, K chosen candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.precision import at_least_float32

BACKGROUND = -1
IGNORED = -2

ReduceSum = Callable[[Tensor], Tensor]
"""Sums a tensor of counts or weights over all processes; the identity where there is only one."""


def single_process(value: Tensor) -> Tensor:
    """The `ReduceSum` of a run with one process: returns `value` as it is."""
    return value


class BoxCoder(Protocol):
    """How a head writes boxes as numbers."""

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        """Boxes from raw regression.

        Args:
            priors: `(…, 4)` in pixels.
            strides: `(…,)` in pixels.
            regression: `(…, R)`; the leading dimensions broadcast with the priors'.

        Returns:
            `(…, 4)` boxes in pixels, not clipped.
        """


def joint_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of a product of two probabilities, from their logits: logit(σ(a)·σ(b)) = −log(e⁻ᵃ(1 + e⁻ᵇ) + e⁻ᵇ)."""
    return -torch.logaddexp(F.softplus(-second) - first, -second)


@dataclass(frozen=True, eq=False)
class TowerMaps:
    """What the two towers of a head hold somewhere on the way, before an activation; kept when a method asks for it.

    Attributes:
        class_maps: of the class tower, L x `(N, Q, H, W)`.
        box_maps: of the box tower, the same.
        output: what the head made of them, with its own candidates and classes.
    """

    class_maps: tuple[Tensor, ...]
    box_maps: tuple[Tensor, ...]
    output: DenseOutput


@dataclass(frozen=True, eq=False)
class DenseOutput:
    """What a dense detector's forward returns, in training and in inference.

    Heads with more to say subclass it. `class_logits` are always logits: where a head forms a joint probability
    (GFLv2), they are the logits of that product.

    Attributes:
        grid: the cells and priors behind the flat dimension P.
        features: pyramid outputs, L x `(N, Q, H, W)`.
        class_logits: `(N, P, C)` before the sigmoid.
        regression: `(N, P, R)` raw: deltas (4), distances (4) or distributions (4 x bins).
        coder: turns `regression` into boxes.
        quality_logits: `(N, P)` centerness or objectness that multiplies the class score, or None.
        towers: what the head's towers held, or None if nobody asked.
    """

    grid: Grid
    features: tuple[Tensor, ...]
    class_logits: Tensor
    regression: Tensor
    coder: BoxCoder
    quality_logits: Tensor | None = None
    towers: TowerMaps | None = None

    def scores(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """What the detector ranks its candidates by, 0 to 1: class probability, times quality where it has one.

        Args:
            index: image, prior and class of the K candidates asked for, each `(K,)`; None for all.

        Returns:
            `(K,)`, or `(N, P, C)` for all.
        """
        logits = self.class_logits if index is None else self.class_logits[index]
        scores = at_least_float32(logits).sigmoid()
        if self.quality_logits is None:
            return scores
        quality = self.quality_logits[..., None] if index is None else self.quality_logits[index[:2]]
        return scores * at_least_float32(quality).sigmoid()

    def score_logits(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """The logits of `scores(index)`, in the same shape."""
        logits = at_least_float32(self.class_logits if index is None else self.class_logits[index])
        if self.quality_logits is None:
            return logits
        quality = self.quality_logits[..., None] if index is None else self.quality_logits[index[:2]]
        return joint_logit(logits, at_least_float32(quality))

    def boxes(self, index: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Decoded boxes in pixels, float32, not clipped to the image.

        Args:
            index: image and prior of the K candidates asked for, each `(K,)`; None for all.

        Returns:
            `(K, 4)`, or `(N, P, 4)` for all.
        """
        priors, strides = self.grid.priors, self.grid.prior_strides
        if index is None:
            return self.coder.decode(priors, strides, at_least_float32(self.regression))
        return self.coder.decode(priors[index[1]], strides[index[1]], at_least_float32(self.regression[index]))

    def priors(self, index: tuple[Tensor, Tensor]) -> Tensor:
        """`(K, 4)` the priors that `boxes(index)` are decoded from, in pixels."""
        return self.grid.priors[index[1]]

    @property
    def anchors(self) -> Grid:
        """The same cells with every anchor that the detector has there; `grid` has the candidates' alone."""
        return self.grid


Output = TypeVar("Output", bound=DenseOutput | TowerMaps)


def combined(outputs: Sequence[Output], combine: Callable[[list[Tensor]], Tensor]) -> Output:
    """One output made of others that have the same grid, of whatever subclass.

    Args:
        outputs: at least one; the result is the first, but for its tensors.
        combine: makes one tensor `(N, …)` of the outputs' tensors of the same meaning.
    """
    changes: dict[str, Any] = {}
    for each in fields(outputs[0]):
        values = [getattr(output, each.name) for output in outputs]
        if isinstance(values[0], Tensor):
            changes[each.name] = combine(values)
        elif isinstance(values[0], tuple):
            changes[each.name] = tuple(combine(list(maps)) for maps in zip(*values, strict=True))
        elif isinstance(values[0], DenseOutput | TowerMaps):
            changes[each.name] = combined(values, combine)
    return replace(outputs[0], **changes)


@dataclass(frozen=True, eq=False)
class Targets:
    """The ground truth of one batch, all its objects in one list.

    Attributes:
        boxes: `(G, 4)` in pixels of the batch canvas.
        labels: `(G,)` int64, 0 to C - 1.
        image: `(G,)` int64, the image each object is in, ascending.
        sizes: `(N, 2)` true height and width of each image; what lies beyond is padding.
    """

    boxes: Tensor
    labels: Tensor
    image: Tensor
    sizes: Tensor

    @classmethod
    def from_images(cls, boxes: Sequence[Tensor], labels: Sequence[Tensor], sizes: Tensor) -> Self:
        """Joins per-image boxes `(n, 4)` and labels `(n,)`."""
        counts = torch.tensor([len(image_boxes) for image_boxes in boxes])
        image = torch.arange(len(boxes)).repeat_interleave(counts).to(sizes.device)
        return cls(torch.cat(tuple(boxes)), torch.cat(tuple(labels)), image, sizes)

    @property
    def num_images(self) -> int:
        """N."""
        return int(self.sizes.shape[0])

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Self:
        """The same targets on another device."""
        moved = {
            name: getattr(self, name).to(device, non_blocking=non_blocking)
            for name in ("boxes", "labels", "image", "sizes")
        }
        return replace(self, **moved)


@dataclass(frozen=True, eq=False)
class Assignment:
    """Which ground truth each candidate is positive for.

    Attributes:
        matched: `(N, P)` int64: index into the batch's `Targets` (0 to G - 1), `BACKGROUND` (-1) or `IGNORED` (-2).
    """

    matched: Tensor

    @cached_property
    def positive(self) -> tuple[Tensor, Tensor]:
        """Image and prior index of every positive, each `(K,)`, in order of image, then prior."""
        image, prior = (self.matched >= 0).nonzero(as_tuple=True)
        return image, prior

    @cached_property
    def positive_targets(self) -> Tensor:
        """`(K,)` the ground truth of every positive, in the order of `positive`."""
        return self.matched[self.positive]

    def labels(self, targets: Targets) -> Tensor:
        """`(N, P)` class of each candidate; `BACKGROUND` and `IGNORED` stay as they are."""
        if len(targets.labels) == 0:
            return self.matched
        return torch.where(self.matched >= 0, targets.labels[self.matched.clamp(min=0)], self.matched)


@dataclass(frozen=True, eq=False)
class Detections:
    """What a detector found in one image, best first.

    Attributes:
        boxes: `(K, 4)` in pixels.
        scores: `(K,)` 0 to 1.
        labels: `(K,)` int64, 0 to C - 1.
    """

    boxes: Tensor = field(default_factory=lambda: torch.zeros(0, 4))
    scores: Tensor = field(default_factory=lambda: torch.zeros(0))
    labels: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.scores)
