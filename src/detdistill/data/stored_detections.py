"""What a teacher predicted beforehand in the images of a dataset. Stored boxes move with the objects of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, counted
from detdistill.core.structures import TeacherBoxes
from detdistill.core.texts import name_of
from detdistill.data.stored_images import StoredImages

_NAMED = 3  # images that a message names


class ImageBoxes(Protocol):
    """What a teacher predicted beforehand in the images of one dataset."""

    def __getitem__(self, image: int) -> TeacherBoxes:
        """Return what was predicted in an image, by its position in the dataset, in pixels of its file."""


class BoxSource(Protocol):
    """Where loaders look up what a teacher predicted beforehand."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names of the teacher."""

    def covered(self, dataset: DetectionDataset) -> NDArray[np.bool_]:
        """Return which images of a dataset `(images,)` are among the stored ones.

        Raises:
            DataError: An image has another size than the one that was predicted.
        """

    def boxes_of(self, dataset: DetectionDataset) -> ImageBoxes:
        """Return what was predicted in the images of a dataset.

        Raises:
            DataError: An image is not among the stored ones, or has another size.
        """


@dataclass(frozen=True, eq=False)
class BoxColumns:
    """Boxes of many images as a few arrays. Letters in shapes: I images, B boxes, K classes kept for each box.

    Attributes:
        offsets: `(I + 1,)` int64; the boxes of image i are those from `offsets[i]` to before `offsets[i + 1]`.
        boxes: `(B, 4)` float32, x1 y1 x2 y2 in pixels of the image file, best first in each image.
        labels: `(B, K)` int32, classes with a known probability; the first is the class that a box was detected as. A
            class that fills up a short list stands twice there, the second time with 0.
        probabilities: `(B, K)` float32 of these classes, 0 to 1.
    """

    offsets: NDArray[np.int64]
    boxes: NDArray[np.float32]
    labels: NDArray[np.int32]
    probabilities: NDArray[np.float32]

    @classmethod
    def of(cls, found: Sequence[TeacherBoxes], top_k: int) -> BoxColumns:
        """Make columns of what was found in each image, with at most `top_k` classes for each box, at least 1."""
        pairs = [_best_classes(each, top_k) for each in found]
        known = max((_most_known(probabilities) for _, probabilities in pairs), default=1)
        return cls(
            np.cumsum([0, *map(len, found)], dtype=np.int64),
            _joined([each.boxes for each in found], 4, np.float32),
            _joined([labels[:, :known] for labels, _ in pairs], known, np.int32),
            _joined([probabilities[:, :known] for _, probabilities in pairs], known, np.float32),
        )

    @classmethod
    def joined(cls, parts: Sequence[BoxColumns]) -> BoxColumns:
        """Join the images of several parts, at least one, one after the other."""
        if len(parts) == 1:
            return parts[0]
        known = max(part.labels.shape[1] for part in parts)
        ends = np.cumsum([0, *(len(part.boxes) for part in parts)])
        offsets = [part.offsets[1:] + start for part, start in zip(parts, ends, strict=False)]
        return cls(
            np.concatenate([ends[:1], *offsets]),
            np.concatenate([part.boxes for part in parts]),
            np.concatenate([_filled(part.labels, part.labels[:, :1], known) for part in parts]),
            np.concatenate([_filled(part.probabilities, np.float32(0), known) for part in parts]),
        )

    def of_image(self, row: int, classes: int, floor: float) -> TeacherBoxes:
        """Return the boxes of an image, with probabilities of all `classes`."""
        own = slice(int(self.offsets[row]), int(self.offsets[row + 1]))
        labels = torch.from_numpy(self.labels[own].astype(np.int64))
        known = torch.from_numpy(np.array(self.probabilities[own]))
        probabilities = known.new_zeros(len(labels), classes).scatter_reduce_(1, labels, known, "amax")
        return TeacherBoxes(torch.from_numpy(np.array(self.boxes[own])), labels[:, 0], probabilities, floor)


@dataclass(frozen=True, eq=False)
class StoredDetections:
    """Detections of many images, of a dataset or of several splits.

    Attributes:
        classes: Class names of the teacher.
        images: Which images these are.
        columns: The boxes, in the order of `images`.
        floor: The score below which nothing was stored.
    """

    classes: tuple[str, ...]
    images: StoredImages = field(repr=False)
    columns: BoxColumns = field(repr=False)
    floor: float

    def covered(self, dataset: DetectionDataset) -> NDArray[np.bool_]:
        """Return which images of a dataset `(images,)` are among the stored ones."""
        return self.rows_of(dataset) >= 0

    def boxes_of(self, dataset: DetectionDataset) -> ImageBoxes:
        """Return what was predicted in the images of a dataset."""
        rows = self.rows_of(dataset)
        missing = np.flatnonzero(rows < 0)
        if len(missing):
            names = ", ".join(name_of(dataset.images.file_names[image]) for image in missing[:_NAMED].tolist())
            raise DataError(
                f"{len(missing):,} of {counted(len(rows), 'image')} of {dataset.source} have no stored detections, the "
                f"first: {names}; these files were never predicted, or have changed since. Predict them with "
                "`detdistill predict TEACHER DATA --store FOLDER`"
            )
        return _BoxesOfRows(self, rows)

    def rows_of(self, dataset: DetectionDataset) -> NDArray[np.int64]:
        """Return the row of each image of a dataset `(images,)`, -1 where nothing is stored."""
        # Unlabelled images by themselves: they may have the names of annotated ones.
        return np.concatenate([self.images.rows_of(part) for part in dataset.parts])

    def of(self, row: int) -> TeacherBoxes:
        """Return what was predicted in the image of a row, in pixels of its file."""
        return self.columns.of_image(row, len(self.classes), self.floor)


@dataclass(frozen=True, eq=False)
class _BoxesOfRows:
    stored: StoredDetections
    rows: NDArray[np.int64]

    def __getitem__(self, image: int) -> TeacherBoxes:
        return self.stored.of(int(self.rows[image]))


def _best_classes(found: TeacherBoxes, top_k: int) -> tuple[Tensor, Tensor]:
    """Labels and probabilities `(J, K)` of the detected class, and then of the others with the best probabilities."""
    own = found.labels[:, None]
    others = found.probabilities.float().scatter(1, own, -1.0)
    rest = others.topk(min(top_k, others.shape[1]) - 1, dim=1)
    is_known = rest.values > 0
    labels = torch.where(is_known, rest.indices, own)
    scores = found.probabilities.float().gather(1, own)
    return torch.cat((own, labels), dim=1), torch.cat((scores, rest.values.clamp(min=0)), dim=1)


def _most_known(probabilities: Tensor) -> int:
    """The number of columns that hold anything: the first, and those of a probability above 0."""
    return 1 + int((probabilities[:, 1:] > 0).sum(dim=1).max()) if len(probabilities) else 1


def _joined(parts: Sequence[Tensor], columns: int, kind: type[np.generic]) -> NDArray[Any]:
    empty = np.zeros((0, columns), kind)
    return np.concatenate([empty, *(part.cpu().numpy().astype(kind) for part in parts)])


def _filled(values: NDArray[Any], filler: NDArray[Any] | np.float32, columns: int) -> NDArray[Any]:
    missing = columns - values.shape[1]
    return np.concatenate([values, np.broadcast_to(filler, (len(values), missing)).astype(values.dtype)], axis=1)
