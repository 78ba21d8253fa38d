"""From an image of the data set to the detector's size, with or without random variation.

Training and evaluation share one rule of size; a resized image keeps its upper left corner, so a detection goes back
to the original image by a scale alone. A teacher with an image size of its own gets the same region of the original
pixels, varied in the same way, at its size.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Self

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms import v2

from detdistill.core.image_options import ImageOptions, scaled
from detdistill.core.images import Size
from detdistill.core.instance_masks import InstanceMasks, sampled
from detdistill.core.rle import nearest
from detdistill.core.structures import TeacherBoxes
from detdistill.core.teacher_size import SAME_SIZE, at_ratio_of


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
        teacher_image: `(3, H, W)` uint8 RGB, the same image at the teacher's own size; None if it has none.
        masks: of the n objects, in pixels of `image`; they move with their boxes. None if masks are not read.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor
    crowd: Tensor
    difficult: Tensor
    stored: TeacherBoxes | None = None
    teacher_image: Tensor | None = None
    masks: InstanceMasks | None = None

    @property
    def size(self) -> Size:
        """Height and width in pixels."""
        return int(self.image.shape[-2]), int(self.image.shape[-1])

    def keep(self, chosen: Tensor) -> Self:
        """The sample with some of its objects only: `chosen` is a bool mask `(n,)`."""
        kept = {name: getattr(self, name)[chosen] for name in ("boxes", "labels", "crowd", "difficult")}
        return replace(self, **kept, masks=None if self.masks is None else self.masks.take(chosen))


Transform = Callable[[Sample], Sample]


@dataclass(frozen=True)
class EvaluationTransform:
    """Resizes and does nothing at random."""

    options: ImageOptions

    def __call__(self, sample: Sample) -> Sample:
        """The sample at the detector's size."""
        size = self.options.fitted(sample.size)
        image, boxes = _typed(sample) if size == sample.size else v2.Resize(size)(*_typed(sample))
        return _sanitized(sample, image, boxes, Variation(size, size).of_masks(sample.masks))


@dataclass(frozen=True)
class TrainingTransform:
    """Resizes with scale jitter, crops, flips, distorts colours. Draws from torch's global generator only.

    Attributes:
        options: the student's image size, and how images vary.
        teacher_ratio: of the teacher's image size to the student's. With another one than 1 samples have a
            `teacher_image`; what is drawn does not depend on it.
    """

    options: ImageOptions
    teacher_ratio: Fraction = SAME_SIZE

    def __call__(self, sample: Sample) -> Sample:
        """A random variation of the sample; objects that the crop leaves no pixel of are dropped."""
        options = self.options
        if not options.varies:
            varied = EvaluationTransform(options)(sample)
            variation = Variation(varied.size, varied.size)
        else:
            variation = drawn(options, sample.size)
            image, boxes = (variation(each) for each in _typed(sample))
            varied = _sanitized(sample, image, boxes, variation.of_masks(sample.masks))
        if self.teacher_ratio == SAME_SIZE:
            return varied
        shown = variation.at_ratio(self.teacher_ratio)(tv_tensors.Image(sample.image))
        return replace(varied, teacher_image=shown.as_subclass(Tensor))


@dataclass(frozen=True, eq=False)
class Variation:
    """One variation of an image: the size that it is resized to, the part that is cut out, and what is done to that.

    Attributes:
        size: height and width in pixels that the whole image is resized to.
        window: height and width of the part.
        corner: row and column of its upper left corner.
        flips: mirror it horizontally.
        colours: factors of a `ColorJitter`, as its `make_params` gives them; None leaves the colours.
    """

    size: Size
    window: Size
    corner: Size = (0, 0)
    flips: bool = False
    colours: dict[str, Any] | None = None

    def __call__(self, whole: tv_tensors.TVTensor) -> tv_tensors.TVTensor:
        """Vary an image, or the boxes in it, `colours` aside."""
        part = v2.functional.resize(whole, list(self.size))
        if self.window != self.size:
            part = v2.functional.crop(part, *self.corner, *self.window)
        if self.flips:
            part = v2.functional.horizontal_flip(part)
        return part if self.colours is None else v2.ColorJitter().transform(part, self.colours)

    def of_masks(self, masks: InstanceMasks | None) -> InstanceMasks | None:
        """Vary masks as the image: a pixel takes the value of the one that its middle lies in."""
        if masks is None or (self.size == self.window == masks.size and not self.flips):
            return masks
        rows, columns = (
            nearest(length, whole)[start : start + part]
            for length, whole, start, part in zip(self.size, masks.size, self.corner, self.window, strict=True)
        )
        return sampled(masks, rows, columns, flips=self.flips)

    def at_ratio(self, ratio: Fraction) -> Self:
        """The same variation at another image size: the same part to a pixel, the same colours.

        The part's size is this one's times the ratio; the middle of the part is kept, to half a pixel.
        """
        size, window = at_ratio_of(self.size, ratio), at_ratio_of(self.window, ratio)
        top, left = (
            _start(Fraction(large, own) * (first + Fraction(part, 2)), cut, large)
            for own, large, first, part, cut in zip(self.size, size, self.corner, self.window, window, strict=True)
        )
        return replace(self, size=size, window=window, corner=(top, left))


def drawn(options: ImageOptions, size: Size) -> Variation:
    """Draw a variation of an image of a height and width, from torch's global generator."""
    fitted = options.fitted(size)
    smallest, largest = options.scale_jitter
    resized = scaled(fitted, smallest + (largest - smallest) * float(torch.rand(())))
    window = min(resized[0], fitted[0]), min(resized[1], fitted[1])
    place = v2.RandomCrop(window).make_params([_nothing(resized)])
    flips = bool(torch.rand(1) < options.flip)
    is_distorted = bool(torch.rand(1) < options.photometric)
    distortion = v2.ColorJitter(0.125, 0.5, 0.5, options.hue or None)
    return Variation(
        resized, window, (place["top"], place["left"]), flips, distortion.make_params([]) if is_distorted else None
    )


def _start(middle: Fraction, length: int, whole: int) -> int:
    """Where a part of `length` pixels begins that has its middle nearest to a place and lies within the whole."""
    return min(max(round(middle - Fraction(length, 2)), 0), whole - length)


def _nothing(size: Size) -> tv_tensors.BoundingBoxes:
    """No boxes, in an image of that size."""
    return tv_tensors.BoundingBoxes(torch.zeros(0, 4), format="XYXY", canvas_size=size)


def _typed(sample: Sample) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes]:
    """The image, and the boxes of all objects, followed by the stored ones."""
    own = sample.boxes if sample.stored is None else torch.cat((sample.boxes, sample.stored.boxes))
    boxes = tv_tensors.BoundingBoxes(own, format="XYXY", canvas_size=sample.size)
    return tv_tensors.Image(sample.image), boxes


def _sanitized(
    sample: Sample, image: tv_tensors.Image, boxes: tv_tensors.BoundingBoxes, masks: InstanceMasks | None
) -> Sample:
    """Clips the boxes; drops objects with less than a pixel left of their boxes, or with none of their masks."""
    clipped = v2.functional.clamp_bounding_boxes(boxes)
    _, valid = v2.functional.sanitize_bounding_boxes(clipped)
    moved, objects = clipped.as_subclass(Tensor), len(sample.boxes)
    stored = sample.stored and sample.stored.keep(valid[objects:], moved[objects:])
    kept = valid[:objects]
    if sample.masks is not None and masks is not None:
        kept = kept & (masks.present | ~sample.masks.present)
    varied = replace(sample, image=image.as_subclass(Tensor), boxes=moved[:objects], stored=stored, masks=masks)
    return varied.keep(kept)
