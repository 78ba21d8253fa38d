"""From an image of the data set to the detector's size, with or without random variation.

Training and evaluation share one rule of size; a resized image keeps its upper left corner, so a detection goes back
to the original image by a scale alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detdistill.core.image_options import ImageOptions, scaled
from detdistill.core.images import Size
from detdistill.core.structures import TeacherBoxes


@dataclass(frozen=True, eq=False)
class Sample:
    """One image and its objects, on the way into a batch.

    Attributes:
        image: `(3, H, W)` uint8 RGB.
        boxes: `(n, 4)` float32, x1 y1 x2 y2 in pixels of `image`.
        labels: `(n,)` int64.
        crowd: `(n,)` bool; these boxes are regions to ignore, and move like all others.
        difficult: `(n,)` bool.
        stored: what a teacher predicted beforehand, in pixels of `image`; its boxes move like all others. None if
            nothing is stored.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    stored: TeacherBoxes | None = None

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    def keep(self, chosen: Tensor) -> Self:
        """The sample with some of its objects only: `chosen` is a bool mask `(n,)`."""
        kept = {name: getattr(self, name)[chosen] for name in ("boxes", "labels", "crowd", "difficult")}
        return replace(self, **kept)


Transform = Callable[[Sample], Sample]


@dataclass(frozen=True)
class EvaluationTransform:
    """Resizes and does nothing at random."""

    options: ImageOptions

    def __call__(self, sample: Sample) -> Sample:
        """The sample at the detector's size."""
        size = self.options.fitted(sample.size)
        return _sanitized(sample, *(_typed(sample) if size == sample.size else v2.Resize(size)(*_typed(sample))))


@dataclass(frozen=True)
class TrainingTransform:
    """Resizes with scale jitter, crops, flips, distorts colours. Draws from torch's global generator only."""

    options: ImageOptions

    def __call__(self, sample: Sample) -> Sample:
        """A random variation of the sample; objects that the crop leaves no pixel of are dropped."""
        options = self.options
        if not options.varies:
            return EvaluationTransform(options)(sample)
        fitted = options.fitted(sample.size)
        smallest, largest = options.scale_jitter
        size = scaled(fitted, smallest + (largest - smallest) * float(torch.rand(())))
        window = min(size[0], fitted[0]), min(size[1], fitted[1])
        steps = v2.Compose(
            [
                v2.Resize(size),
                v2.RandomCrop(window),
                v2.RandomHorizontalFlip(options.flip),
                v2.RandomApply([v2.ColorJitter(0.125, 0.5, 0.5, options.hue or None)], p=options.photometric),
            ]
        )
        return _sanitized(sample, *steps(*_typed(sample)))


def _typed(sample: Sample) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes]:
    """The image, and the boxes of all objects, followed by the stored ones."""
    own = sample.boxes if sample.stored is None else torch.cat((sample.boxes, sample.stored.boxes))
    boxes = tv_tensors.BoundingBoxes(own, format="XYXY", canvas_size=sample.size)
    return tv_tensors.Image(sample.image), boxes


def _sanitized(sample: Sample, image: tv_tensors.Image, boxes: tv_tensors.BoundingBoxes) -> Sample:
    """Clips the boxes; drops those with less than a pixel left, and their labels and flags with them."""
    clipped = v2.functional.clamp_bounding_boxes(boxes)
    _, valid = v2.functional.sanitize_bounding_boxes(clipped)
    moved, objects = clipped.as_subclass(Tensor), len(sample.boxes)
    stored = sample.stored and sample.stored.keep(valid[objects:], moved[objects:])
    return replace(sample, image=image.as_subclass(Tensor), boxes=moved[:objects], stored=stored).keep(valid[:objects])
