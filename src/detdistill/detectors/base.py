"""The contract that any detector must meet to take part."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from torch import Tensor, nn

from detdistill.core.grid import Grid
from detdistill.core.normalization import Normalization
from detdistill.core.structures import Assignment, DenseOutput, Detections, ReduceSum, Targets, single_process


class Detector(Protocol):
    """What a detector must offer to be trained, distilled, evaluated and exported; `check_detector` tests it.

    Attributes:
        classes: class names; label c is `classes[c]`.
        normalization: turns a batch of 0..255 RGB images into what `forward` takes.
    """

    classes: tuple[str, ...]
    normalization: Normalization

    def __call__(self, images: Tensor) -> DenseOutput:
        """Normalised images `(N, 3, H, W)` to an output, the same type in training and in inference."""

    def assign(self, grid: Grid, targets: Targets) -> Assignment:
        """Which ground truth each candidate is positive for."""

    def detection_loss(
        self, output: DenseOutput, targets: Targets, assignment: Assignment, reduce_sum: ReduceSum = single_process
    ) -> dict[str, Tensor]:
        """The named, weighted terms of the detection loss, each a scalar over the global normaliser."""

    def detect(self, output: DenseOutput, sizes: Tensor) -> list[Detections]:
        """The detections of each image, best first; `sizes` `(N, 2)` are the images' true heights and widths."""


class DetectorModule(Detector, Protocol):
    """A `Detector` that is an `nn.Module`."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """As `nn.Module`'s."""

    def modules(self) -> Iterator[nn.Module]:
        """As `nn.Module`'s."""

    def eval(self) -> nn.Module:
        """As `nn.Module`'s."""
