"""The one in-memory form of an annotated data set, whatever files it came from. NumPy only: readable without torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import Problem


@dataclass(frozen=True, eq=False)
class ImageRecord:
    """One image and its objects.

    Attributes:
        image_id: COCO's id; for formats without ids, the file's stem.
        path: the image file.
        file_name: the name that the annotations use, relative to the image folder.
        width: pixels, with the EXIF orientation applied.
        height: pixels, with the EXIF orientation applied.
        boxes: `(n, 4)` float64, x1 y1 x2 y2 in pixels, inside the image, each of positive area.
        labels: `(n,)` int64, index into the data set's `classes`.
        areas: `(n,)` float64, square pixels; the annotation's own (COCO measures segments), else the box's.
        crowd: `(n,)` bool, COCO's `iscrowd`: a region of many objects. Training ignores background inside it; scoring
            neither rewards nor punishes it.
        difficult: `(n,)` bool, VOC's flag: ignored in training unless asked for. VOC's protocol neither rewards nor
            punishes it.
    """

    image_id: int | str
    path: Path
    file_name: str
    width: int
    height: int
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """An annotated set of images.

    Attributes:
        source: where it was read from, for messages.
        classes: class names; a label is an index into them.
        category_ids: the id that result files use for each class (COCO's own, else 1, 2, 3 …).
        images: in a fixed order (by the annotation file, else by name).
        problems: what was left out, changed or noted while reading.
    """

    source: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: tuple[ImageRecord, ...]
    problems: tuple[Problem, ...] = ()

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The problems of annotations that were left out because they are unreadable or invalid."""
        return tuple(
            problem for problem in self.problems if problem.outcome == "left out" and problem.unit == "annotation"
        )

    @property
    def annotated(self) -> int:
        """Number of annotations in the files, those left out included."""
        kept = sum(len(record.labels) for record in self.images)
        return kept + sum(problem.count for problem in self.left_out)


def fingerprint(dataset: DetectionDataset) -> str:
    """SHA-256 of what a data set's annotations say, file names included: pixels are not read."""
    digest = hashlib.sha256(json.dumps(dataset.classes).encode())
    for record in dataset.images:
        digest.update(json.dumps([record.file_name, record.height, record.width, len(record.labels)]).encode())
        for column in (record.boxes, record.labels, record.crowd, record.difficult):
            digest.update(np.ascontiguousarray(column).tobytes())
    return digest.hexdigest()
