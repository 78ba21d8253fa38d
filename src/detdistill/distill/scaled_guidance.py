"""What a teacher predicts at an image size of its own, in pixels of the student's canvas."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Self

import torch
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import BoxCoder, Candidates, Features, Output, Predictions
from detdistill.core.structures import TeacherBoxes
from detdistill.teachers.opinions import SHARPNESS, Opinions
from detdistill.teachers.teacher import Guidance

Strides = tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class ImageScales:
    """How many times larger each image of a batch is for the teacher than for the student.

    Sides are whole pixels, so that images differ a little from the ratio of the two image sizes.

    Attributes:
        factors: `(N, 4)` for x1, y1, x2 and y2.
    """

    factors: Tensor

    @classmethod
    def of(cls, student: Tensor, teacher: Tensor) -> Self:
        """Those of images of true heights and widths `(N, 2)` for both."""
        factors = teacher.float() / student.float()  # not every device has float64
        return cls(torch.cat((factors, factors), dim=1).flip(1))

    def enlarged(self, found: TeacherBoxes, image: int) -> TeacherBoxes:
        """Boxes in an image of the student's size, at the teacher's."""
        return replace(found, boxes=found.boxes * self.factors[image])

    def reduced(self, found: TeacherBoxes, image: int) -> TeacherBoxes:
        """Boxes in an image of the teacher's size, at the student's."""
        return replace(found, boxes=found.boxes / self.factors[image])


@dataclass(frozen=True)
class ScaledCoder:
    """A coder for candidates and boxes of another scale.

    Attributes:
        coder: writes boxes at the teacher's scale.
        ratio: of the teacher's scale to that of the candidates.
    """

    coder: BoxCoder
    ratio: float

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        """Boxes from raw regression, see `BoxCoder`."""
        return self.coder.decode(priors * self.ratio, strides * self.ratio, regression) / self.ratio


@dataclass(frozen=True, eq=False, kw_only=True)
class ScaledGuidance(Guidance):
    """Guidance in pixels of the student's canvas, from a teacher that reads images of another size.

    Attributes:
        origin: in pixels of the teacher's canvas.
        scales: of the images. Boxes are divided by them; cells and candidates on them by the ratio, which is the same
            to half a pixel of the teacher's image.
        size_ratio: of the teacher's image size to the student's.
        covers: height and width of the teacher's canvas, in those of the student's times the ratio, at least 1.
    """

    origin: Guidance
    scales: ImageScales
    size_ratio: Fraction
    covers: tuple[float, float] = field(default=(1.0, 1.0))

    @property
    def ratio(self) -> float:
        """`size_ratio`."""
        return float(self.size_ratio)

    @property
    def extent(self) -> tuple[float, float]:
        """`covers`."""
        return self.covers

    def opinions(self, boxes: Tensor, image: Tensor, sharpness: float = SHARPNESS) -> Opinions:
        """The teacher's opinion of boxes in pixels of the student's canvas."""
        factors = self.scales.factors[image]
        found = self.origin.opinions(boxes * factors, image, sharpness)
        return replace(found, boxes=found.boxes / factors)


def scaled_guidance(
    origin: Guidance, scales: ImageScales, ratio: Fraction, extent: tuple[float, float]
) -> ScaledGuidance:
    """Bring what a teacher predicts to pixels of the student's canvas.

    Args:
        origin: in pixels of the teacher's canvas.
        scales: of the images.
        ratio: of the teacher's image size to the student's.
        extent: height and width of the teacher's canvas, in those of the student's times the ratio.
    """
    boxes = origin.boxes and tuple(scales.reduced(found, image) for image, found in enumerate(origin.boxes))
    output = None if origin.output is None else _scaled(origin.output, ratio)
    return ScaledGuidance(output, boxes, origin=origin, scales=scales, size_ratio=ratio, covers=extent)


def _scaled(output: Output, ratio: Fraction) -> Output:
    """An output in pixels of the student's canvas; what the head's towers held stays in the teacher's."""
    features = Features(output.features.maps, _strides(output.features.strides, ratio))
    stages = {name: _predictions(stage, ratio) for name, stage in output.stages.items()}
    return replace(output, features=features, stages=stages)


def _predictions(predictions: Predictions, ratio: Fraction) -> Predictions:
    own = predictions.candidates
    candidates = Candidates(
        None if own.grid is None else _grid(own.grid, ratio),
        None if own.own is None else own.own / float(ratio),
        own.valid,
    )
    return replace(predictions, candidates=candidates, coder=ScaledCoder(predictions.coder, float(ratio)))


def _grid(grid: Grid, ratio: Fraction) -> Grid:
    anchors = tuple(boxes / float(ratio) for boxes in grid.base_anchors)
    return Grid(grid.sizes, _strides(grid.strides, ratio), anchors)


def _strides(strides: Strides, ratio: Fraction) -> Strides:
    return tuple((float(Fraction(vertical) / ratio), float(Fraction(across) / ratio)) for vertical, across in strides)
