"""A teacher that predicts in pixels of a canvas of another size what a detector predicts on the student's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.core.output import Candidates, Features, Output
from detdistill.core.structures import Targets, TeacherImages
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import Guidance, TeacherBatch


class Rescaled:
    """The detector's maps with other strides, its boxes times a factor.

    Args:
        detector: a dense detector.
        images: `(N, 3, H, W)` what it looks at, whatever the batch holds; on other canvases, at nothing.
        targets: with the sizes of `images`.
        factor: of the batch's canvas to that of `images`.
    """

    stored = None
    tower_head = None
    region_reader = None
    size = None
    kind = "rescaled"
    origin: Mapping[str, Any] = {"source": "rescaled", "sha256": None}

    def __init__(self, detector: DenseDetector, images: Tensor, targets: Targets, factor: float) -> None:
        self._teacher, self._images, self._sizes, self._factor = (
            DetectorTeacher(detector),
            images,
            targets.sizes,
            factor,
        )
        self.asked: list[tuple[int, ...]] = []

    @property
    def classes(self) -> tuple[str, ...]:
        return self._teacher.classes

    @property
    def offers(self) -> frozenset[Offer]:
        return self._teacher.offers - {"head"}

    def notes(self, student: InputSpec) -> list[str]:  # noqa: ARG002
        return []

    def guide(self, batch: TeacherBatch) -> Guidance:
        self.asked.append(tuple(batch.images.shape))
        canvas = [round(side / self._factor) for side in batch.images.shape[2:]]
        if list(self._images.shape[2:]) == canvas and len(batch.images) == len(self._images):
            assert torch.equal(batch.sizes, (self._sizes * self._factor).long())
            seen = TeacherBatch(self._images, self._sizes, batch.wanted)
        else:
            sizes = torch.tensor([canvas] * len(batch.images))
            seen = TeacherBatch(torch.zeros(len(sizes), 3, *canvas, dtype=torch.uint8), sizes, batch.wanted)
        found = self._teacher.guide(seen)
        boxes = found.boxes and tuple(replace(each, boxes=each.boxes * self._factor) for each in found.boxes)
        return Guidance(self._rescaled(found.dense), boxes)

    def _rescaled(self, output: Output) -> Output:
        predictions, factor = output.predictions, self._factor
        grid = predictions.grid
        strides = tuple((down * factor, across * factor) for down, across in grid.strides)
        changes: dict[str, Any] = {}
        if isinstance(predictions.coder, DistanceCoder) and predictions.coder.unit == "pixel":
            changes = {"regression": predictions.regression * factor}
        moved = Grid(grid.sizes, strides, tuple(anchors * factor for anchors in grid.base_anchors))
        changed = replace(predictions, candidates=Candidates(moved), **changes)
        return replace(output.with_predictions(changed), features=Features(output.features.maps, strides))


def beside(images: Tensor, targets: Targets, factor: float) -> Targets:
    """The targets with empty images for a teacher, `factor` times as large."""
    canvas = [round(side * factor) for side in images.shape[2:]]
    shown = torch.zeros(len(images), 3, *canvas, dtype=torch.uint8)
    return replace(targets, teacher_images=TeacherImages(shown, (targets.sizes * factor).long()))
