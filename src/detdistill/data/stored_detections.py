"""What a teacher predicted beforehand in the images of a dataset. Stored boxes move with the objects of an image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.structures import TeacherBoxes


class BoxSource(Protocol):
    """Where loaders look up what a teacher predicted beforehand in an image."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the teacher."""

    def covered(self, dataset: DetectionDataset) -> NDArray[np.bool_]:
        """`(images,)` which images of a dataset are among the stored ones."""

    def of(self, record: ImageRecord) -> TeacherBoxes:
        """What was predicted in an image, in pixels of its file.

        Raises:
            KeyError: the image is not among the stored ones.
        """


@dataclass(frozen=True, eq=False)
class StoredDetections:
    """Detections of many images as a few arrays. Letters in shapes: I images, B boxes, K classes kept for each box.

    Attributes:
        classes: class names of the teacher, C of them.
        rows: number of each image, 0 to I - 1, by its file name or its image id.
        offsets: `(I + 1,)` int64; the boxes of image i are those from `offsets[i]` to before `offsets[i + 1]`.
        boxes: `(B, 4)` float32, x1 y1 x2 y2 in pixels of the image file, best first in each image.
        labels: `(B, K)` int64, classes with a known probability; the first is the class that a box was detected as.
        probabilities: `(B, K)` float32 of these classes, 0 to 1.
        floor: the score below which nothing was stored.
        by_id: `rows` has image ids, not file names.
    """

    classes: tuple[str, ...]
    rows: Mapping[int | str, int] = field(repr=False)
    offsets: NDArray[np.int64] = field(repr=False)
    boxes: NDArray[np.float32] = field(repr=False)
    labels: NDArray[np.int64] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    floor: float
    by_id: bool = False

    def covered(self, dataset: DetectionDataset) -> NDArray[np.bool_]:
        """`(images,)` which images of a dataset are among the stored ones."""
        keys = dataset.images.image_ids if self.by_id else dataset.images.file_names
        return np.fromiter((key in self.rows for key in keys), np.bool_, len(dataset.images))

    def of(self, record: ImageRecord) -> TeacherBoxes:
        """What was predicted in an image, in pixels of its file.

        Raises:
            KeyError: the image is not among the stored ones.
        """
        row = self.rows[record.image_id if self.by_id else record.file_name]
        own = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        labels = torch.from_numpy(np.array(self.labels[own]))
        known = torch.from_numpy(np.array(self.probabilities[own]))
        # A class that fills up a short list stands twice there, the second time with 0.
        probabilities = known.new_zeros(len(labels), len(self.classes)).scatter_reduce_(1, labels, known, "amax")
        return TeacherBoxes(torch.from_numpy(np.array(self.boxes[own])), labels[:, 0], probabilities, self.floor)
