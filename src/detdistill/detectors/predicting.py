"""Detections in images that belong to no dataset: files, or arrays in memory."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms.v2.functional import resize_image

from detdistill.core.canvas import on_canvas
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.images import read_image
from detdistill.core.in_image import in_pixels_of_image
from detdistill.core.modules import evaluating
from detdistill.core.structures import Detections
from detdistill.detectors.running import InferenceOptions, detect

if TYPE_CHECKING:
    from detdistill.detectors.base import Detector

Pixels = NDArray[np.uint8]

USUAL_THRESHOLD = 0.3
"""Score from which on a detection is shown, where neither the run nor the user says."""


def predict_each(
    detector: Detector,
    images: Sequence[str | Path | Pixels],
    *,
    threshold: float | None,
    size: ImageSize | None,
    options: InferenceOptions,
) -> list[Detections]:
    """The detections of each image in its pixels, best first; see `Detector.predict`."""
    check_threshold(threshold)
    if size is None:
        raise DetdistillError(
            "the detector does not know the size of images that it was made for: give it with "
            "size=ImageSize(short_side=…, long_side=…)"
        )
    thresholds, default = score_thresholds(detector, threshold)
    read = (one if isinstance(one, np.ndarray) else read_image(Path(one)) for one in images)
    found = detect_in_images(detector, read, size, options)
    return [above(one, detector.classes, thresholds, default) for one in found]


def check_threshold(threshold: float | None) -> None:
    """Raise `DetdistillError` for a least score that is no probability."""
    if threshold is not None and not 0 <= threshold <= 1:
        raise DetdistillError(f"threshold must lie between 0 and 1, not {threshold}")


def score_thresholds(detector: Detector, threshold: float | None) -> tuple[Mapping[str, float], float]:
    """Return the scores from which on a detection is shown, by class name, and that of all other classes.

    Args:
        detector: Its own thresholds count where none is given.
        threshold: Least score, 0 to 1, of all classes.
    """
    return (detector.score_thresholds, USUAL_THRESHOLD) if threshold is None else ({}, threshold)


def detect_in_images(
    detector: Detector,
    images: Iterable[Pixels],
    size: ImageSize,
    options: InferenceOptions = InferenceOptions(),
) -> Iterator[Detections]:
    """Find the objects in images, in evaluation mode; the detector's modes and statistics stay as they are.

    Several threads may use one detector. A batch holds images of one canvas. Where canvases alternate, up to two
    batches of images wait for their like.

    Args:
        detector: on the device where it is to run.
        images: each `(H, W, 3)` uint8 RGB, of any size.
        size: the image size to resize to.
        options: batches and precision.

    Yields:
        The detections of each image in its own pixels, in the order of the images.

    Raises:
        DataError: an array is no image.
        DetdistillError: the detector is in training mode and cannot be copied into evaluation mode.
    """
    detector = evaluating(detector)
    waiting: deque[_Waiting] = deque()
    of_canvas: dict[tuple[int, int], list[_Waiting]] = defaultdict(list)
    for image in images:
        one = _Waiting(_resized(image, size), (image.shape[0], image.shape[1]))
        canvas = size.canvas_of(one.original_size)
        waiting.append(one)
        of_canvas[canvas].append(one)
        if len(of_canvas[canvas]) == options.batch_size:
            _detect_batch(detector, of_canvas.pop(canvas), canvas, options)
        elif len(waiting) == MOST_WAITING * options.batch_size and waiting[0].found is None:
            longest = size.canvas_of(waiting[0].original_size)
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
    """An image on its way through `detect_in_images`.

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
        return in_pixels_of_image(self.found, size, self.original_size)


def _detect_batch(
    detector: Detector, batch: Sequence[_Waiting], canvas: tuple[int, int], options: InferenceOptions
) -> None:
    """Note in images of one canvas what is found there."""
    sizes = torch.tensor([one.resized.shape[1:] for one in batch])
    with torch.no_grad():
        found = detect(detector, on_canvas([one.resized for one in batch], canvas), sizes, options)
    for one, detections in zip(batch, found, strict=True):
        one.found = detections


def _resized(image: Pixels, size: ImageSize) -> Tensor:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise DataError(
            f"an image is an array (height, width, 3) of uint8, RGB; this one is {image.shape} of {image.dtype}"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    resized: Tensor = resize_image(pixels, list(size.fitted((image.shape[0], image.shape[1]))))
    return resized


def above(found: Detections, classes: Sequence[str], thresholds: Mapping[str, float], default: float) -> Detections:
    """The detections from a score on.

    Args:
        found: in one image.
        classes: names of the labels.
        thresholds: by class name.
        default: of classes that have none.
    """
    least = torch.tensor([thresholds.get(name, default) for name in classes], device=found.scores.device)
    keep = found.scores >= least[found.labels]
    return found.take(keep)
