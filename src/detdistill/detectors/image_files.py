"""Detections in pictures that belong to no data set: files, or arrays in memory."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import resize_image

from detdistill.core.boxes import boxes_to_original
from detdistill.core.canvas import on_canvas
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.images import read_image
from detdistill.core.modules import modes_kept
from detdistill.core.structures import Detections
from detdistill.detectors.base import DetectorModule
from detdistill.detectors.running import InferenceOptions, detect

Pixels = NDArray[np.uint8]

USUAL_THRESHOLD = 0.3
"""Score from which on a detection is shown, where neither the run nor the user says."""


class PictureDetector(DetectorModule, Protocol):
    """A detector that knows what it was made for."""

    image_options: ImageOptions | None
    score_thresholds: Mapping[str, float]


class FindsInPictures:
    """Adds `predict` to a detector.

    Attributes:
        image_options: the size of images that the detector was made for; None where it is not known.
        score_thresholds: by class name, the score from which on a detection is shown; of classes without one it is 0.3.
    """

    image_options: ImageOptions | None = None
    score_thresholds: Mapping[str, float] = {}

    def predict(
        self: PictureDetector,
        pictures: Sequence[str | Path | Pixels],
        *,
        threshold: float | None = None,
        images: ImageOptions | None = None,
        options: InferenceOptions = InferenceOptions(),
    ) -> list[Detections]:
        """Finds the objects in pictures, on the device where the detector is.

        Args:
            pictures: image files, or arrays `(H, W, 3)` uint8 RGB.
            threshold: least score, 0 to 1, of all classes; None for `score_thresholds`.
            images: the size to resize to, instead of `image_options`.
            options: batches and precision.

        Returns:
            The detections of each picture in its pixels, best first.

        Raises:
            DataError: a picture cannot be read, or an array is none.
            DetdistillError: the size of the images is not known, or the threshold is no probability.
        """
        if isinstance(pictures, str | Path | np.ndarray):
            raise DetdistillError("predict takes a list of pictures: put the only one into brackets, [picture]")
        if threshold is not None and not 0 <= threshold <= 1:
            raise DetdistillError(f"threshold must lie between 0 and 1, not {threshold}")
        size = images or self.image_options
        if size is None:
            raise DetdistillError(
                "the detector does not know the size of images that it was made for: give it with "
                "images=ImageOptions(short_side=…, long_side=…)"
            )
        thresholds = self.score_thresholds if threshold is None else {}
        usual = USUAL_THRESHOLD if threshold is None else threshold
        read = (one if isinstance(one, np.ndarray) else read_image(Path(one)) for one in pictures)
        found = detect_in_pictures(self, read, size, options)
        return [above(one, self.classes, thresholds, usual) for one in found]


def detect_in_pictures(
    detector: DetectorModule,
    pictures: Iterable[Pixels],
    images: ImageOptions,
    options: InferenceOptions = InferenceOptions(),
) -> Iterator[Detections]:
    """Find the objects in images, in evaluation mode; the detector is left as it was.

    A batch holds images of one canvas. Where canvases alternate, up to two batches of images wait for their like.

    Args:
        detector: on the device where it is to run.
        pictures: each `(H, W, 3)` uint8 RGB, of any size.
        images: the size to resize to.
        options: batches and precision.

    Yields:
        The detections of each image in its own pixels, in the order of the images.

    Raises:
        DataError: an array is no image.
    """
    waiting: deque[_Waiting] = deque()
    of_canvas: dict[tuple[int, int], list[_Waiting]] = defaultdict(list)
    for picture in pictures:
        one = _Waiting(_resized(picture, images), (picture.shape[0], picture.shape[1]))
        canvas = images.canvas_of(one.original_size)
        waiting.append(one)
        of_canvas[canvas].append(one)
        if len(of_canvas[canvas]) == options.batch_size:
            _detect_batch(detector, of_canvas.pop(canvas), canvas, options)
        elif len(waiting) == MOST_WAITING * options.batch_size and waiting[0].found is None:
            longest = images.canvas_of(waiting[0].original_size)
            _detect_batch(detector, of_canvas.pop(longest), longest, options)
        while waiting and waiting[0].found is not None:
            yield waiting.popleft().in_pixels_of_the_image()
    for canvas, batch in of_canvas.items():
        _detect_batch(detector, batch, canvas, options)
    yield from (one.in_pixels_of_the_image() for one in waiting)


MOST_WAITING = 2
"""Batches of images that wait for others of their canvas, at the most."""


@dataclass
class _Waiting:
    """An image on its way through `detect_in_pictures`.

    Attributes:
        resized: `(3, h, w)` uint8.
        original_size: height and width in pixels.
        found: in pixels of the canvas; None before its batch was run.
    """

    resized: Tensor
    original_size: tuple[int, int]
    found: Detections | None = None

    def in_pixels_of_the_image(self) -> Detections:
        assert self.found is not None
        size = int(self.resized.shape[1]), int(self.resized.shape[2])
        return Detections(
            boxes_to_original(self.found.boxes, size, self.original_size), self.found.scores, self.found.labels
        )


def _detect_batch(
    detector: DetectorModule, batch: Sequence[_Waiting], canvas: tuple[int, int], options: InferenceOptions
) -> None:
    """Note in images of one canvas what is found there."""
    sizes = torch.tensor([one.resized.shape[1:] for one in batch])
    with torch.no_grad(), modes_kept(detector):
        detector.eval()
        found = detect(detector, on_canvas([one.resized for one in batch], canvas), sizes, options)
    for one, detections in zip(batch, found, strict=True):
        one.found = detections


def _resized(picture: Pixels, images: ImageOptions) -> Tensor:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise DataError(
            f"a picture is an array (height, width, 3) of uint8, RGB; this one is {picture.shape} of {picture.dtype}"
        )
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    resized: Tensor = resize_image(image, list(images.fitted((picture.shape[0], picture.shape[1]))))
    return resized


def above(found: Detections, classes: Sequence[str], thresholds: Mapping[str, float], default: float) -> Detections:
    """The detections from a score on.

    Args:
        found: in one picture.
        classes: names of the labels.
        thresholds: by class name.
        default: of classes that have none.
    """
    least = torch.tensor([thresholds.get(name, default) for name in classes], device=found.scores.device)
    keep = found.scores >= least[found.labels]
    return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])
