"""What every head can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

from torch import Tensor, nn

from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.offers import DENSE_OFFERS, Offer
from detdistill.core.output import BoxCoder, Output, Predictions, TowerMaps
from detdistill.core.structures import IGNORED, Assignment, ReduceSum, Targets
from detdistill.detectors.dense.architecture import Towers
from detdistill.detectors.dense.heads.towers import ConvTower
from detdistill.detectors.dense.priors import PriorLayout
from detdistill.detectors.postprocess import PostProcessing

Assigner = Callable[[Grid, Targets], Assignment]


class DenseHead(nn.Module, ABC):
    """Turns pyramid maps into an `Output`, says what each candidate should learn, and how wrong it is.

    Every head of this package runs two towers of convolutions, one for classes and one for boxes, over all levels.

    Args:
        in_channels: of the pyramid's maps.
        towers: the stacks' shape.
        layout: lays the priors out over the levels.
        assigner: matches candidates to ground truth.
        postprocessing: how detections are read off an output.

    Attributes:
        coder: how the head writes boxes as numbers.
        offers: what the head gives to distillation.
        kept_depth: after how many convolutions outputs keep what the towers hold; None if they do not.
    """

    coder: BoxCoder
    offers: ClassVar[frozenset[Offer]] = DENSE_OFFERS | {"head"}
    kept_depth: int | None = None

    def __init__(
        self,
        in_channels: int,
        towers: Towers,
        *,
        layout: PriorLayout,
        assigner: Assigner,
        postprocessing: PostProcessing,
    ) -> None:
        super().__init__()
        self.channels = (towers.channels or in_channels) if towers.depth else in_channels
        self.class_tower = ConvTower(in_channels, towers, len(layout.strides))
        self.box_tower = ConvTower(in_channels, towers, len(layout.strides))
        self.layout = layout
        self.assigner = assigner
        self.postprocessing = postprocessing

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the pyramid's levels, in pixels."""
        return tuple(self.layout.strides)

    def grid(self, features: Sequence[Tensor]) -> Grid:
        """The grid of these pyramid maps."""
        # While a graph is traced the lengths may be symbols: `int` would take the example's for good.
        sizes = tuple((level.shape[-2], level.shape[-1]) for level in features)
        return self.layout.grid(sizes, features[0].device)

    def keep_towers(self, depth: int) -> None:
        """From now on the outputs have `towers`: what the two hold after `depth` convolutions, 0 being the pyramid.

        Raises:
            DetdistillError: the towers have fewer.
        """
        if not 0 <= depth <= len(self.class_tower):
            raise DetdistillError(f"the head's towers have {len(self.class_tower)} convolutions, not {depth}")
        self.kept_depth = depth

    def forward(self, features: tuple[Tensor, ...]) -> Output:
        """Pyramid maps, L x `(N, Q, H_l, W_l)`, to the head's output."""
        if self.kept_depth is None:
            return Output.dense(features, self.predict(self.class_tower(features), self.box_tower(features)))
        class_maps = self.class_tower.up_to_activation(features, self.kept_depth)
        box_maps = self.box_tower.up_to_activation(features, self.kept_depth)
        predictions = self.complete(class_maps, box_maps)
        return Output.dense(features, predictions, TowerMaps(tuple(class_maps), tuple(box_maps), predictions))

    def complete(self, class_maps: Sequence[Tensor], box_maps: Sequence[Tensor]) -> Predictions:
        """Predictions from what the towers hold after `kept_depth` convolutions, before the activation.

        Args:
            class_maps: of the class tower, L x `(N, Q, H_l, W_l)`.
            box_maps: of the box tower, the same.
        """
        assert self.kept_depth is not None
        return self.predict(
            self.class_tower.from_activation(class_maps, self.kept_depth),
            self.box_tower.from_activation(box_maps, self.kept_depth),
        )

    @abstractmethod
    def predict(self, class_features: Sequence[Tensor], box_features: Sequence[Tensor]) -> Predictions:
        """Predictions from what comes out of the class tower and the box tower, L x `(N, Q, H_l, W_l)` each."""

    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """Which ground truth each candidate of the grid is positive for."""
        return self.assigner(grid, targets)

    @abstractmethod
    def loss(
        self, predictions: Predictions, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum
    ) -> dict[str, Tensor]:
        """The named, weighted terms of the detection loss, each a scalar.

        Each term is this process's sum over the global normaliser: the terms of all processes add up to the loss of
        the joined batch.
        """


def counted_positives(assignment: Assignment) -> Tensor:
    """Scalar: positives of the batch, where an image without any counts as one (mmdetection's `avg_factor`).

    An image all of whose candidates are ignored does not count, so that there may be none.
    """
    matched = assignment.matched
    least = (matched != IGNORED).any(dim=1).long()
    return (matched >= 0).sum(dim=1).maximum(least).sum().float()
