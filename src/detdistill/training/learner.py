"""What learns in a run: a detector from ground truth alone, or a student from a teacher too."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor, nn

from detdistill.core.structures import ReduceSum, Targets
from detdistill.detectors.base import Detector
from detdistill.detectors.running import output_of


class Learner(Protocol):
    """A module around the detector that is trained: `Supervision`, or a `Distiller`.

    Attributes:
        student: the detector that is trained.
        raw: terms of the last forward pass before they were weighted, where they have weights: this process's share.
    """

    raw: dict[str, Tensor]

    @property
    def student(self) -> Detector:
        """The detector that is trained."""

    def __call__(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """The named terms of the loss of a batch of images, 0 to 255: this process's share of each."""

    def begin_step(self, step: int, total: int, warmup: int) -> None:
        """Called before each step with its number, the number of all steps, and that of the warm-up's."""

    def end_step(self, reduce_sum: ReduceSum) -> None:
        """Called after the backward pass of each step."""

    def weights(self) -> dict[str, float]:
        """What the terms of `raw` are multiplied by in this step."""


class Supervision(nn.Module):
    """A detector that learns from ground truth alone.

    Args:
        student: the detector.
        channels_last: store images with the channels innermost.
    """

    def __init__(self, student: Detector, *, channels_last: bool) -> None:
        super().__init__()
        self.student = student
        self.raw: dict[str, Tensor] = {}
        self._channels_last = channels_last

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """The detection loss's terms."""
        output = output_of(self.student, images, targets.sizes, channels_last=self._channels_last, targets=targets)
        return self.student.loss(output, targets, self.student.match(output, targets), reduce_sum)

    def begin_step(self, step: int, total: int, warmup: int) -> None:
        """Ground truth counts the same in every step."""

    def end_step(self, reduce_sum: ReduceSum) -> None:
        """Nothing is learnt of a step but its gradient."""

    def weights(self) -> dict[str, float]:
        """None: the detection loss has its own."""
        return {}
