"""The objects of an annotation file as they stand there, before they are checked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detdistill.core.packed_texts import PackedTexts
from detdistill.data.box_forms import Form

Box = tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Objects:
    """The objects of all images as columns of m objects.

    Attributes:
        images: `(m,)` int64, index of the object's image.
        labels: `(m,)` int32, index of its class.
        boxes: `(m, 4)` float64, x1 y1 x2 y2 in pixels, finite, otherwise unchecked.
        areas: `(m,)` float64, square pixels; NaN where the box's own counts.
        crowd: `(m,)` bool, COCO's flag.
        difficult: `(m,)` bool, VOC's flag.
        places: `(m,)` the entry of each, for messages: its number, or a text.
        source: What stands before each of `places`, for example the file.
        form: How the files write a box: corners, corner and sides, or fractions of the image's size.
        masks: Each object's mask as in `ImageRecord`; None if masks are not read.
    """

    images: NDArray[np.int64]
    labels: NDArray[np.int32]
    boxes: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    places: NDArray[np.int64] | PackedTexts
    source: str = ""
    form: Form = "corners"
    masks: PackedTexts | None = None

    def place(self, row: int) -> str:
        """Return where an object stands, for messages."""
        return f"{self.source}{self.places[row]}"

    @classmethod
    def joined(cls, parts: Sequence[Objects], source: str, form: Form) -> Objects:
        """Join parts of the same source and form one after the other."""
        numbers = [part.places for part in parts if isinstance(part.places, np.ndarray)]
        masks = [part.masks for part in parts if part.masks is not None]
        return cls(
            images=np.concatenate([np.zeros(0, np.int64), *(part.images for part in parts)]),
            labels=np.concatenate([np.zeros(0, np.int32), *(part.labels for part in parts)]),
            boxes=np.concatenate([np.zeros((0, 4)), *(part.boxes for part in parts)]),
            areas=np.concatenate([np.zeros(0), *(part.areas for part in parts)]),
            crowd=np.concatenate([np.zeros(0, np.bool_), *(part.crowd for part in parts)]),
            difficult=np.concatenate([np.zeros(0, np.bool_), *(part.difficult for part in parts)]),
            places=np.concatenate([np.zeros(0, np.int64), *numbers])
            if len(numbers) == len(parts)
            else PackedTexts.joined([_as_texts(part.places) for part in parts]),
            source=source,
            form=form,
            masks=PackedTexts.joined(masks) if masks else None,
        )


def _as_texts(places: NDArray[np.int64] | PackedTexts) -> PackedTexts:
    return PackedTexts.of(map(str, places.tolist())) if isinstance(places, np.ndarray) else places


class ObjectList:
    """Collects objects that are read one by one.

    Attributes:
        labels: Index of each object's class; a reader that learns the classes last sets them at the end.

    Args:
        masks: Whether masks are read, too.
    """

    def __init__(self, *, masks: bool = False) -> None:
        self.labels: list[int] = []
        self._images: list[int] = []
        self._boxes: list[Box] = []
        self._areas: list[float] = []
        self._flags: list[tuple[bool, bool]] = []
        self._places: list[str] = []
        self._masks: list[str] | None = [] if masks else None

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        image: int,
        label: int,
        box: Box,
        place: str,
        *,
        area: float = math.nan,
        crowd: bool = False,
        difficult: bool = False,
        mask: str = "",
    ) -> None:
        """Append one object; the arguments are those of `Objects`."""
        self._images.append(image)
        self.labels.append(label)
        self._boxes.append(box)
        self._areas.append(area)
        self._flags.append((crowd, difficult))
        self._places.append(place)
        if self._masks is not None:
            self._masks.append(mask)

    def columns(self, form: Form = "corners", source: str = "") -> Objects:
        """Return the columns of what was collected; `source` stands before each place."""
        flags = np.array(self._flags, dtype=np.bool_).reshape(-1, 2)
        return Objects(
            images=np.array(self._images, dtype=np.int64),
            labels=np.array(self.labels, dtype=np.int32),
            boxes=np.array(self._boxes, dtype=np.float64).reshape(-1, 4),
            areas=np.array(self._areas, dtype=np.float64),
            crowd=flags[:, 0],
            difficult=flags[:, 1],
            places=PackedTexts.of(self._places),
            source=source,
            form=form,
            masks=None if self._masks is None else PackedTexts.of(self._masks),
        )
