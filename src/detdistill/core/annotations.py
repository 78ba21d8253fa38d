"""The one in-memory form of an annotated data set, whatever files it came from. NumPy only: readable without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import Problem
from detdistill.core.packed_texts import PackedTexts, joined_masks, ragged_rows


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
        masks: the n objects' masks as COCO's RLE at the image's size, an empty text for an object without one; None if
            masks were not read, or no object of the dataset has one.
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
    masks: PackedTexts | None = None

    def keep(self, kept: NDArray[np.bool_]) -> Self:
        """Return the image with some of its objects: `kept` is a bool mask `(n,)`."""
        columns = {name: getattr(self, name)[kept] for name in ("boxes", "labels", "areas", "crowd", "difficult")}
        return replace(self, **columns, masks=None if self.masks is None else self.masks.take(np.flatnonzero(kept)))


@dataclass(frozen=True, eq=False)
class ImageTable(Sequence[ImageRecord]):
    """Images and their objects as columns, of n images with m objects; an `ImageRecord` is made when one is asked for.

    A million images are a few arrays: they take little memory, and processes that load images share them.

    Attributes:
        id_texts: each image's id, as text.
        numbered: `(n,)` bool, whether the id is a number.
        file_names: as in `ImageRecord`.
        paths: the image files.
        sizes: `(n, 2)` int64, height and width in pixels.
        starts: `(n + 1,)` int64, where each image's objects start in the columns below, and where the last one's end.
        boxes: `(m, 4)` float64; this column and the others as in `ImageRecord`.
        labels: `(m,)` int32.
        areas: `(m,)` float64.
        crowd: `(m,)` bool.
        difficult: `(m,)` bool.
        masks: of the m objects, as in `ImageRecord`, which says when they are None.
    """

    id_texts: PackedTexts
    numbered: NDArray[np.bool_]
    file_names: PackedTexts
    paths: PackedTexts
    sizes: NDArray[np.int64]
    starts: NDArray[np.int64]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int32]
    areas: NDArray[np.float64]
    crowd: NDArray[np.bool_]
    difficult: NDArray[np.bool_]
    masks: PackedTexts | None = None

    @classmethod
    def of(cls, records: Iterable[ImageRecord]) -> ImageTable:
        """Make columns of records."""
        if isinstance(records, ImageTable):
            return records
        records = list(records)
        starts = np.zeros(len(records) + 1, dtype=np.int64)
        np.cumsum([len(record.labels) for record in records], out=starts[1:])
        images = cls.without_objects(
            [record.image_id for record in records],
            [record.file_name for record in records],
            [str(record.path) for record in records],
            [(record.height, record.width) for record in records],
        )
        return replace(
            images,
            starts=starts,
            boxes=np.concatenate([images.boxes, *(record.boxes for record in records)]),
            labels=np.concatenate([images.labels, *(record.labels for record in records)]).astype(np.int32),
            areas=np.concatenate([images.areas, *(record.areas for record in records)]),
            crowd=np.concatenate([images.crowd, *(record.crowd for record in records)]),
            difficult=np.concatenate([images.difficult, *(record.difficult for record in records)]),
            masks=joined_masks([(record.masks, len(record.labels)) for record in records]),
        )

    @classmethod
    def without_objects(
        cls, ids: Sequence[int | str], file_names: Iterable[str], paths: Iterable[str], sizes: Sequence[tuple[int, int]]
    ) -> ImageTable:
        """Make a table of images with these heights and widths, and no objects."""
        return cls(
            id_texts=PackedTexts.of(map(str, ids)),
            numbered=np.array([not isinstance(image_id, str) for image_id in ids], dtype=np.bool_),
            file_names=PackedTexts.of(file_names),
            paths=PackedTexts.of(paths),
            sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
            starts=np.zeros(len(ids) + 1, dtype=np.int64),
            boxes=np.zeros((0, 4)),
            labels=np.zeros(0, np.int32),
            areas=np.zeros(0),
            crowd=np.zeros(0, np.bool_),
            difficult=np.zeros(0, np.bool_),
        )

    @classmethod
    def joined(cls, parts: Sequence[ImageTable]) -> ImageTable:
        """Join the images of at least one table, one after the other."""
        ends = np.cumsum([0, *(len(part.labels) for part in parts)])
        starts = [part.starts[:-1] + start for part, start in zip(parts, ends[:-1], strict=True)]
        return cls(
            id_texts=PackedTexts.joined([part.id_texts for part in parts]),
            numbered=np.concatenate([part.numbered for part in parts]),
            file_names=PackedTexts.joined([part.file_names for part in parts]),
            paths=PackedTexts.joined([part.paths for part in parts]),
            sizes=np.concatenate([part.sizes for part in parts]),
            starts=np.concatenate([*starts, ends[-1:]]),
            boxes=np.concatenate([part.boxes for part in parts]),
            labels=np.concatenate([part.labels for part in parts]),
            areas=np.concatenate([part.areas for part in parts]),
            crowd=np.concatenate([part.crowd for part in parts]),
            difficult=np.concatenate([part.difficult for part in parts]),
            masks=joined_masks([(part.masks, len(part.labels)) for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    @overload
    def __getitem__(self, index: int) -> ImageRecord: ...

    @overload
    def __getitem__(self, index: slice) -> ImageTable: ...

    def __getitem__(self, index: int | slice) -> ImageRecord | ImageTable:
        if isinstance(index, slice):
            return self.take(range(len(self))[index])
        place = range(len(self))[index]
        start, stop = self.starts[place : place + 2].tolist()
        height, width = self.sizes[place].tolist()
        id_text = self.id_texts[place]
        return ImageRecord(
            image_id=int(id_text) if self.numbered[place] else id_text,
            path=Path(self.paths[place]),
            file_name=self.file_names[place],
            width=width,
            height=height,
            boxes=self.boxes[start:stop],
            labels=self.labels[start:stop].astype(np.int64),
            areas=self.areas[start:stop],
            crowd=self.crowd[start:stop],
            difficult=self.difficult[start:stop],
            masks=None if self.masks is None else self.masks[start:stop],
        )

    def __iter__(self) -> Iterator[ImageRecord]:
        return map(self.__getitem__, range(len(self)))

    @property
    def image_ids(self) -> list[int | str]:
        """The id of each image."""
        return [int(text) if is_number else text for text, is_number in zip(self.id_texts, self.numbered, strict=True)]

    @property
    def counts(self) -> NDArray[np.int64]:
        """`(n,)` objects of each image, crowd regions included."""
        return np.diff(self.starts)

    @property
    def image_of_object(self) -> NDArray[np.int64]:
        """`(m,)` index of each object's image."""
        return np.repeat(np.arange(len(self)), self.counts)

    @property
    def distinct_sizes(self) -> tuple[list[tuple[int, int]], NDArray[np.int64]]:
        """The different sizes, height and width, and the index of each image's `(n,)` among them."""
        # One number a size: np.unique sorts rows of two twenty times as slowly.
        numbers, index = np.unique(self.sizes[:, 0] << 32 | self.sizes[:, 1], return_inverse=True)
        return list(zip((numbers >> 32).tolist(), (numbers & 0xFFFFFFFF).tolist(), strict=True)), index

    def take(self, images: Sequence[int] | NDArray[np.int64]) -> ImageTable:
        """Return the images of these indices, in this order."""
        chosen = np.asarray(images, dtype=np.int64)
        rows, starts = ragged_rows(self.starts, chosen)
        return ImageTable(
            id_texts=self.id_texts.take(chosen),
            numbered=self.numbered[chosen],
            file_names=self.file_names.take(chosen),
            paths=self.paths.take(chosen),
            sizes=self.sizes[chosen],
            starts=starts,
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            areas=self.areas[rows],
            crowd=self.crowd[rows],
            difficult=self.difficult[rows],
            masks=None if self.masks is None else self.masks.take(rows),
        )


@dataclass(frozen=True, eq=False)
class DetectionDataset:
    """An annotated set of images.

    Attributes:
        source: where it was read from, for messages.
        classes: class names; a label is an index into them.
        category_ids: the id that result files use for each class (COCO's own, else 1, 2, 3 …).
        images: in a fixed order (by the annotation file, else by name).
        problems: what was left out, changed or noted while reading.
        num_labelled: number of the first images, which are annotated; None for all. Of the others nobody has said what
            is in them: that they have no objects here does not mean that there are none.
    """

    source: str
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    images: ImageTable
    problems: tuple[Problem, ...] = ()
    num_labelled: int | None = None

    @property
    def parts(self) -> tuple[DetectionDataset, ...]:
        """The annotated images, and the unlabelled ones if there are any, each as a dataset."""
        if self.num_labelled is None:
            return (self,)
        tables = self.images[: self.num_labelled], self.images[self.num_labelled :]
        return tuple(replace(self, images=table, num_labelled=None) for table in tables)

    @property
    def left_out(self) -> tuple[Problem, ...]:
        """The problems of annotations that were left out because they are unreadable or invalid."""
        return tuple(
            problem for problem in self.problems if problem.outcome == "left out" and problem.unit == "annotation"
        )

    @property
    def annotated(self) -> int:
        """Number of annotations in the files, those left out included."""
        return len(self.images.labels) + sum(problem.count for problem in self.left_out)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of what the annotations say, file names included: pixels are not read."""
        images = self.images
        boxes, labels, crowd, difficult = (
            np.ascontiguousarray(column).reshape(-1).view(np.uint8).data
            for column in (images.boxes, images.labels.astype(np.int64), images.crowd, images.difficult)
        )
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        if self.num_labelled is not None:
            digest.update(json.dumps({"labelled": self.num_labelled}).encode())
        places = pairwise(images.starts.tolist())
        for name, (height, width), (start, stop) in zip(images.file_names, images.sizes.tolist(), places, strict=True):
            digest.update(json.dumps([name, height, width, stop - start]).encode())
            digest.update(boxes[32 * start : 32 * stop])
            digest.update(labels[8 * start : 8 * stop])
            digest.update(crowd[start:stop])
            digest.update(difficult[start:stop])
        return digest.hexdigest()
