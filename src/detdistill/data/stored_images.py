"""Which images stored detections belong to."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.files import open_regular
from detdistill.core.packed_texts import PackedTexts

LOOKED_AT = 8
"""Image files of a split that are compared with those that were predicted."""
LEAST_SAME = 0.5
"""Share of these files whose content must be the same, or the images of a split are others of the same names."""
_DIGEST_BYTES = 8


class StoredImages(Protocol):
    """Images with stored detections; rows count from 0."""

    def __len__(self) -> int: ...

    def rows_of(self, dataset: DetectionDataset) -> NDArray[np.int64]:
        """Return the row of each image of a dataset `(images,)`, -1 where nothing is stored."""


@dataclass(frozen=True, eq=False)
class ImagesByPath:
    """Images of a dataset on this machine.

    Attributes:
        paths: The image files.
    """

    paths: PackedTexts

    def __len__(self) -> int:
        return len(self.paths)

    def rows_of(self, dataset: DetectionDataset) -> NDArray[np.int64]:
        """Return the row of each image of a dataset `(images,)`, -1 where nothing is stored."""
        return _found({path: row for row, path in enumerate(self.paths)}, dataset.images.paths)


@dataclass(frozen=True, eq=False)
class ImagesOfSplits:
    """Images of several splits of a dataset, whose file names may be the same in different splits.

    Attributes:
        names: File names, relative to each split's image folder.
        sizes: `(I, 2)` int32, height and width in pixels.
        digests: `(I,)` int64, `file_digest` of each image file.
        split: `(I,)` int64, index into `splits`.
        splits: Names of the splits, for messages.
    """

    names: PackedTexts
    sizes: NDArray[np.int32]
    digests: NDArray[np.int64]
    split: NDArray[np.int64]
    splits: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def rows_of(self, dataset: DetectionDataset) -> NDArray[np.int64]:
        """Return the row of each image of a dataset `(images,)`, -1 where nothing is stored.

        The split is chosen by the images themselves: by their names, and by the content of a few files. Images that the
        best split lacks are looked for in the others. Of images of the same name, from several folders, each file
        decides for itself.

        Raises:
            DataError: An image has another size than the one that was predicted.
        """
        rows, left = np.full(len(dataset.images), -1, dtype=np.int64), np.arange(len(dataset.images))
        while len(left):
            rows[left] = self._rows_in_best(replace(dataset, images=dataset.images.take(left)))
            is_found = rows[left] >= 0
            if not is_found.any():
                break
            left = left[~is_found]
        rows = self._told_apart(rows, dataset)
        self.check_sizes(rows, dataset)
        return rows

    def _told_apart(self, rows: NDArray[np.int64], dataset: DetectionDataset) -> NDArray[np.int64]:
        """The rows, where images of the same name have those of their contents."""
        names = list(dataset.images.file_names)
        counts = Counter(names)
        same = [image for image, name in enumerate(names) if counts[name] > 1]
        by_content = dict(zip(self.digests.tolist(), range(len(self)), strict=True)) if same else {}
        rows = rows.copy()
        for image in same:
            digest = file_digest(Path(dataset.images.paths[image]))
            rows[image] = -1 if digest is None else by_content.get(digest, -1)
        return rows

    def _rows_in_best(self, dataset: DetectionDataset) -> NDArray[np.int64]:
        """The row of each image in the split that fits best, -1 for all where none does."""
        best, best_fit = np.full(len(dataset.images), -1, dtype=np.int64), (-1.0, 0)
        for split in range(len(self.splits)):
            rows = self.rows_in(split, dataset)
            same = self.same_files(rows, dataset)
            fit = (0.0 if same is None else same, int(np.count_nonzero(rows >= 0)))
            if fit > best_fit and fit[1] and (same is None or same >= LEAST_SAME):
                best, best_fit = rows, fit
        return best

    def rows_in(self, split: int, dataset: DetectionDataset) -> NDArray[np.int64]:
        """Return the row of each image of a dataset by its name in one split `(images,)`, -1 where there is none."""
        own = np.flatnonzero(self.split == split)
        rows = dict(zip(self.names.take(own), own.tolist(), strict=True))
        return _found(rows, dataset.images.file_names)

    def same_files(self, rows: NDArray[np.int64], dataset: DetectionDataset) -> float | None:
        """Return the share of image files that are still those that were predicted, by the content of a few.

        Args:
            rows: `(images,)` as from `rows_in`.
            dataset: The images.

        Returns:
            0 to 1, or None if nothing is stored or no file can be read.
        """
        there = np.flatnonzero(rows >= 0)
        some = there[np.unique(np.linspace(0, len(there) - 1, min(LOOKED_AT, len(there))).astype(int))]
        digests = [(file_digest(Path(dataset.images.paths[image])), self.digests[rows[image]]) for image in some]
        same = [own == stored for own, stored in digests if own is not None]
        return sum(same) / len(same) if same else None

    def check_sizes(self, rows: NDArray[np.int64], dataset: DetectionDataset) -> None:
        """Raise `DataError` if an image has another size than the one that was predicted."""
        there = np.flatnonzero(rows >= 0)
        others = there[(self.sizes[rows[there]] != dataset.images.sizes[there]).any(axis=1)]
        if not len(others):
            return
        problems = [
            Problem(
                f"image {dataset.images.file_names[image]}",
                f"{_in_words(dataset.images.sizes[image])} pixels, predicted with {_in_words(self.sizes[rows[image]])}",
                fatal=True,
                unit="image",
            )
            for image in others.tolist()
        ]
        raise DataError(
            f"{dataset.source}: images have other sizes than in the stored detections; predict them again into a new "
            "folder:",
            problems,
        )


def file_digest(path: Path) -> int | None:
    """Return a number for the content of a file, None if it cannot be read."""
    try:
        with open_regular(path) as file:
            digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=_DIGEST_BYTES))
    except (OSError, ValueError):
        return None
    return int.from_bytes(digest.digest(), "big", signed=True)


def _found(rows: dict[str, int], keys: PackedTexts) -> NDArray[np.int64]:
    return np.fromiter((rows.get(key, -1) for key in keys), np.int64, len(keys))


def _in_words(size: Sequence[int] | NDArray[np.integer]) -> str:
    return f"{size[1]}x{size[0]}"
