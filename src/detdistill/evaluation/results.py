"""The detections of a whole dataset in memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import DataError
from detdistill.core.packed_texts import PackedTexts, joined_masks

if TYPE_CHECKING:
    from detdistill.core.structures import Detections


@dataclass(frozen=True, eq=False)
class Results:
    """The K detections of a data set; where scores are tied, the earlier one ranks first.

    Attributes:
        image: `(K,)` int64, index into the data set's `images`.
        xywh: `(K, 4)` float64, x y width height in pixels of the image file, as results files have them: a width that
            is worked out from corners differs in its last bit, and an overlap may then just miss a threshold.
        scores: `(K,)` float64.
        labels: `(K,)` int64, index into the data set's `classes`.
        masks: of the K detections, COCO's RLE at the size of the image file, an empty text for one without a mask;
            None for a detector without masks.
    """

    image: NDArray[np.int64]
    xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    masks: PackedTexts | None = None

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: NDArray[np.int64]) -> Self:
        """Return the detections of these indices, in this order."""
        return replace(
            self,
            image=self.image[rows],
            xywh=self.xywh[rows],
            scores=self.scores[rows],
            labels=self.labels[rows],
            masks=None if self.masks is None else self.masks.take(rows),
        )

    @property
    def boxes(self) -> NDArray[np.float64]:
        """`(K, 4)` float64, x1 y1 x2 y2 in pixels of the image file."""
        return np.concatenate((self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]), axis=1)

    @classmethod
    def from_detections(cls, detections: Iterable[tuple[int, Detections]]) -> Self:
        """Joins what a detector found.

        Args:
            detections: pairs of an index into the data set's `images` and what was found there, its boxes in pixels
                of the image file. Images where nothing was found may be left out.

        Returns:
            The detections in the order of the images, whatever the order of the pairs; those of an image keep theirs.

        Raises:
            DataError: a box or score is not finite.
        """
        parts = [cls.empty()]
        for image, found in detections:
            boxes, scores, labels = (tensor.cpu().numpy() for tensor in (found.boxes, found.scores, found.labels))
            masks = None if found.masks is None else PackedTexts.of(found.masks.rles())
            xywh = to_xywh(boxes.astype(float))
            parts.append(cls(np.full(len(labels), image), xywh, scores.astype(float), labels, masks))
        joined = cls.join(parts)
        joined = joined.take(np.argsort(joined.image, kind="stable"))
        finite = np.isfinite(joined.xywh).all(axis=1) & np.isfinite(joined.scores)
        if not finite.all():
            raise DataError(
                f"{np.count_nonzero(~finite)} of {len(joined)} detections hold numbers that are not finite, the first "
                f"in image {joined.image[~finite][0]}: the detector's weights or its precision are broken"
            )
        return joined

    @classmethod
    def empty(cls) -> Self:
        """No detection at all."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All detections of one or more parts of a data set."""
        return cls(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.xywh for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
            joined_masks([(part.masks, len(part)) for part in parts]),
        )


def to_xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(K, 4)` x1 y1 x2 y2 as `(K, 4)` x y width height."""
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)
