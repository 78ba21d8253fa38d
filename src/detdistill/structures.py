"""What every part of the toolkit shares: the grid, a detector's output, ground truth, assignment, detections.

Boxes are x1 y1 x2 y2 in pixels of the batch canvas. Sizes are (height, width). Letters in shapes:
N images, L pyramid levels, A anchors per cell, P priors (all cells of all levels, times A), C classes,
Q feature channels, G ground-truth objects of the whole batch, K chosen candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Protocol, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.precision import at_least_float32

BACKGROUND = -1
IGNORED = -2

ReduceSum = Callable[[Tensor], Tensor]
"""Sums a tensor of counts or weights over all processes; the identity where there is only one."""


def single_process(value: Tensor) -> Tensor:
    """The `ReduceSum` of a run with one process: returns `value` as it is."""
    return value


@dataclass(frozen=True, eq=False)
class Grid:
    """The pyramid of cells through which a dense detector sees one batch, and the priors it lays out.

    Flat tensors `(N, P, …)` run level by level, row by row, cell by cell, anchor by anchor. This class is the only
    place that knows that order.

    Attributes:
        sizes: (height, width) in cells, per level.
        strides: (vertical, horizontal) step of a cell in pixels, per level.
        base_anchors: `(L, A, 4)` the anchors of the cell at the origin; the cell in row i and column j has them moved
            by (j, i) strides. A point detector's prior is its cell: one box of the stride's size.
    """

    sizes: tuple[tuple[int, int], ...]
    strides: tuple[tuple[int, int], ...]
    base_anchors: Tensor

    @property
    def anchors_per_cell(self) -> int:
        """A."""
        return int(self.base_anchors.shape[1])

    @property
    def num_levels(self) -> int:
        """L."""
        return len(self.sizes)

    @cached_property
    def level_lengths(self) -> tuple[int, ...]:
        """Number of priors per level."""
        return tuple(height * width * self.anchors_per_cell for height, width in self.sizes)

    @property
    def num_priors(self) -> int:
        """P."""
        return sum(self.level_lengths)

    @cached_property
    def priors(self) -> Tensor:
        """`(P, 4)` all anchors, in pixels."""
        device, dtype = self.base_anchors.device, self.base_anchors.dtype
        levels = []
        for (height, width), (step_y, step_x), anchors in zip(self.sizes, self.strides, self.base_anchors, strict=True):
            x = torch.arange(width, device=device, dtype=dtype) * step_x
            y = torch.arange(height, device=device, dtype=dtype) * step_y
            shift_y, shift_x = torch.meshgrid(y, x, indexing="ij")
            shifts = torch.stack((shift_x, shift_y, shift_x, shift_y), dim=-1)
            levels.append((shifts[:, :, None] + anchors).reshape(-1, 4))
        return torch.cat(levels)

    @cached_property
    def centers(self) -> Tensor:
        """`(P, 2)` the priors' centres (x, y), in pixels."""
        return (self.priors[:, :2] + self.priors[:, 2:]) / 2

    @cached_property
    def prior_strides(self) -> Tensor:
        """`(P,)` the horizontal stride of each prior's level: the unit in which distances are regressed."""
        levels = zip(self.level_lengths, self.strides, strict=True)
        return torch.cat([self.base_anchors.new_full((length,), step_x) for length, (_, step_x) in levels])

    def prior_index(self, level: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Index into P of the first anchor of a cell; its other anchors follow.

        Args:
            level: level of each cell; broadcasts with `row` and `column`.
            row: row of each cell in its level.
            column: column of each cell in its level.
        """
        starts = torch.tensor([0, *accumulate(self.level_lengths)], device=level.device)
        widths = torch.tensor([width for _, width in self.sizes], device=level.device)
        return starts[level] + (row * widths[level] + column) * self.anchors_per_cell

    def flatten(self, maps: Sequence[Tensor]) -> Tensor:
        """Joins the levels' maps `(N, A*D, H, W)`, channel = anchor * D + d, into one flat tensor `(N, P, D)`."""
        flat = []
        for level in maps:
            batch, channels, height, width = level.shape
            depth = channels // self.anchors_per_cell
            flat.append(level.permute(0, 2, 3, 1).reshape(batch, height * width * self.anchors_per_cell, depth))
        return torch.cat(flat, dim=1)

    def split(self, flat: Tensor) -> tuple[Tensor, ...]:
        """Cuts a flat tensor `(N, P, …)` into its levels `(N, P_l, …)`."""
        return torch.split(flat, list(self.level_lengths), dim=1)

    def unflatten(self, flat: Tensor) -> tuple[Tensor, ...]:
        """The inverse of `flatten`: `(N, P, D)` to the levels' maps `(N, A*D, H, W)`."""
        batch, _, depth = flat.shape
        return tuple(
            level.reshape(batch, height, width, self.anchors_per_cell * depth).permute(0, 3, 1, 2)
            for level, (height, width) in zip(self.split(flat), self.sizes, strict=True)
        )

    def valid_cells(self, image_sizes: Tensor) -> tuple[Tensor, ...]:
        """Which cells have their centre inside the image's true size (the rest is batch padding).

        Args:
            image_sizes: `(N, 2)` true height and width of each image, in pixels.

        Returns:
            A bool map `(N, H, W)` per level.
        """
        device = image_sizes.device
        maps = []
        for (height, width), (step_y, step_x) in zip(self.sizes, self.strides, strict=True):
            rows = (torch.arange(height, device=device) + 0.5) * step_y < image_sizes[:, :1]
            columns = (torch.arange(width, device=device) + 0.5) * step_x < image_sizes[:, 1:]
            maps.append(rows[:, :, None] & columns[:, None, :])
        return tuple(maps)


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
