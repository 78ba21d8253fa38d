"""Detections in pictures that belong to no data set: files, or arrays in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detdistill.data.folders import Folder
from detdistill.data.transforms import EvaluationTransform, Sample, boxes_to_original
from detdistill.errors import DataError, DetdistillError
from detdistill.image_options import ImageOptions
from detdistill.inference.predict import PADDING, DetectorModule, InferenceOptions, detect
from detdistill.modules import modes_kept
from detdistill.structures import Detections

Pixels = NDArray[np.uint8]


def find_pictures(paths: Sequence[str]) -> list[Path]:
    """Image files by name, by folder, subfolders included, or by pattern, each once and in the order asked for.

    Args:
        paths: such as `a.jpg`, `shots`, `shots/*.png`.

    Raises:
        DetdistillError: there is nothing by a name, or no image in a folder.
    """
    found: dict[Path, None] = {}
    for name in paths:
        path = Path(name).expanduser()
        if path.is_dir():
            own = [path / each for each in Folder(path).walk() if each.suffix.lower() in _suffixes()]
        elif path.exists():
            own = [path]
        else:
            # `Path.glob` wants the part before the pattern apart.
            own = sorted(Path(each) for each in glob(str(path), recursive=True) if Path(each).is_file())  # noqa: PTH207
        if not own:
            raise DetdistillError(
                f"{name}: there is no image in this folder" if path.is_dir() else f"{name}: there is no such file"
            )
        found |= dict.fromkeys(own)
    return list(found)


def _suffixes() -> frozenset[str]:
    return frozenset(Image.registered_extensions())


def detect_in_pictures(
    detector: DetectorModule,
    pictures: Iterable[Pixels],
    images: ImageOptions,
    options: InferenceOptions = InferenceOptions(),
) -> Iterator[Detections]:
    """Finds the objects in pictures, in evaluation mode; the detector is left as it was.

    Args:
        detector: on the device where it is to run.
        pictures: each `(H, W, 3)` uint8 RGB, of any size.
        images: the size to resize to.
        options: batches and precision.

    Yields:
        What is in each picture, in its pixels.

    Raises:
        DataError: an array is no picture.
    """
    transform = EvaluationTransform(images)
    waiting = iter(pictures)
    while group := list(islice(waiting, options.batch_size)):
        resized = [transform(_sample(picture)) for picture in group]
        sizes = torch.tensor([sample.size for sample in resized])
        least = images.letterbox or 0
        height, width = (-(-max(int(sizes[:, axis].max()), least) // PADDING) * PADDING for axis in (0, 1))
        canvas = torch.zeros(len(group), 3, height, width, dtype=torch.uint8)
        for place, sample in zip(canvas, resized, strict=True):
            place[:, : sample.size[0], : sample.size[1]] = sample.image
        with torch.no_grad(), modes_kept(detector):
            detector.eval()
            found = detect(detector, canvas, sizes, options)
        for picture, sample, one in zip(group, resized, found, strict=True):
            boxes = boxes_to_original(one.boxes, sample.size, (picture.shape[0], picture.shape[1]))
            yield Detections(boxes, one.scores, one.labels)


def _sample(picture: Pixels) -> Sample:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8 or 0 in picture.shape:
        raise DataError(
            f"a picture is an array (height, width, 3) of uint8, RGB; this one is {picture.shape} of {picture.dtype}"
        )
    none = torch.zeros(0, dtype=torch.int64)
    image = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)
    return Sample(image, torch.zeros(0, 4), none, none.bool(), none.bool())


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
