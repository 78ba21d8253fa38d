"""What is learnt in a run: a detector from ground truth alone, or from a teacher too."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from detdistill.core.annotations import DetectionDataset
from detdistill.core.structures import ReduceSum, Targets
from detdistill.data.teacher_inputs import NOTHING, TeacherInputs
from detdistill.detectors.base import Detector
from detdistill.detectors.running import output_of
from detdistill.training.recipe import Recipe


class Task(nn.Module, ABC):
    """A module around the detector that is trained: `Supervised` or `Distilled`.

    Its parameters are what is trained, its state is what a resumed run needs.

    Attributes:
        raw: The terms of the last forward pass before they were weighted, where they have weights: this process's
            share, without gradient.
    """

    raw: dict[str, Tensor]

    @property
    @abstractmethod
    def detector(self) -> Detector:
        """The detector that is trained."""

    @abstractmethod
    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """Return the named terms of the loss of a batch: this process's share of each.

        Args:
            images: `(N, 3, H, W)` RGB, 0 to 255, padded to one size.
            targets: Their objects.
            reduce_sum: Sums counts over processes.
        """

    def begin_step(self, step: int, total: int, warmup: int) -> None:
        """Prepare for a step.

        Args:
            step: Its number, from 0.
            total: Steps of the run.
            warmup: Steps of the warm-up.
        """

    def end_step(self, reduce_sum: ReduceSum) -> None:
        """Learn from a step after its backward pass."""

    def weights(self) -> dict[str, float]:
        """Return what the terms of `raw` are multiplied by in this step."""
        return {}

    def origin(self) -> dict[str, Any]:
        """Return where what the detector knows comes from, for `model.json`; `teacher` among it if there is one."""
        return {"made_by": "training"}

    def chosen(self, recipe: Recipe) -> Recipe:
        """Return a recipe with what the preflight has found in the place of `auto`."""
        return recipe

    def take(self, recipe: Recipe) -> None:
        """Take what another process has found from its recipe."""

    @property
    def teacher_inputs(self) -> TeacherInputs:
        """What a teacher gets of each image beside what the student reads; it comes with the batches."""
        return NOTHING

    def teacher_ap(self, dataset: DetectionDataset) -> float | None:  # noqa: ARG002
        """Return the teacher's COCO AP on a dataset, 0 to 1; None without a teacher."""
        return None


class Supervised(Task):
    """A detector that learns from ground truth alone.

    Args:
        detector: The detector.
        channels_last: Store images with the channels innermost.
    """

    def __init__(self, detector: Detector, *, channels_last: bool) -> None:
        super().__init__()
        self.student = detector
        self.raw = {}
        self._channels_last = channels_last

    @property
    def detector(self) -> Detector:
        """The detector that is trained."""
        return self.student

    def forward(self, images: Tensor, targets: Targets, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        """Return the terms of the detection loss."""
        output = output_of(self.student, images, targets.sizes, channels_last=self._channels_last, targets=targets)
        return self.student.loss(output, targets, self.student.match(output, targets), reduce_sum)
