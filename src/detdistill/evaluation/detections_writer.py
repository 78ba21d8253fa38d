"""Adding predicted images to a folder of stored detections."""

from __future__ import annotations

import dataclasses
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import numpy as np
from filelock import FileLock, Timeout

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.settings import from_values, to_values
from detdistill.core.structures import TeacherBoxes
from detdistill.core.texts import name_of
from detdistill.data.detections_folder import (
    FILE_NAME,
    DetectionsHeader,
    ImagesPart,
    read_detections,
    read_header,
    write_part,
)
from detdistill.data.stored_detections import BoxColumns
from detdistill.data.stored_images import ImagesOfSplits

IMAGES_OF_A_FILE = 5_000
"""Images after which their detections are written: a crash loses no more than these."""
_LOCK = ".lock"
_OURS = re.compile(
    r"\.lock|boxes-[0-9a-f]{16}\.safetensors|\.(boxes-[0-9a-f]{16}\.safetensors|detections\.json)\.\d+\.tmp"
)
_DECIDING = ("classes", "floor", "top_k", "image_size", "postprocessing")
"""Fields that must be the same for all images of a folder, beside the teacher's hash."""


@contextmanager
def kept_from_others(folder: Path) -> Iterator[None]:
    """Keep other processes from adding to a folder, which is created; if nothing is written, it disappears again.

    Raises:
        DetdistillError: Another process is adding to it, or it cannot be written.
    """
    lock = folder / _LOCK
    try:
        folder.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock).acquire(timeout=0)
    except Timeout as error:
        raise DetdistillError(
            f"{folder} is in use: another process stores detections in it; wait for its end, or name another folder"
        ) from error
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be used as a folder of detections: {error.strerror}") from error
    try:
        with held:
            yield
    finally:
        with suppress(OSError):  # it holds something
            lock.unlink(missing_ok=True)
            folder.rmdir()


def started(folder: Path, header: DetectionsHeader) -> DetectionsHeader:
    """Return what a folder holds, which has the same settings, or `header` as it is read again for a new folder.

    Raises:
        DetdistillError: The folder holds something else, or detections of another teacher or with other settings.
    """
    header = from_values(DetectionsHeader, to_values(header))
    if not (folder / FILE_NAME).exists():
        _check_free(folder)
        return header
    known = read_header(folder)
    pairs: list[tuple[str, Any, Any]] = [(name, getattr(known, name), getattr(header, name)) for name in _DECIDING]
    pairs.append(("teacher", _identity(known.teacher), _identity(header.teacher)))
    for name, there, asked in pairs:
        if there != asked:
            raise DetdistillError(
                f"{folder / FILE_NAME}: {name} is {name_of(there)}, and now {name_of(asked)}; a folder has one teacher "
                "and one setting: name another folder, or remove this one first"
            )
    return known


def left_to_predict(folder: Path, header: DetectionsHeader, split: str, dataset: DetectionDataset) -> DetectionDataset:
    """Return the dataset with those of its images that a folder does not hold in a split.

    Raises:
        DataError: Two images have the same name, or the folder holds other images of these names.
    """
    name, count = next(iter(Counter(dataset.images.file_names).most_common(1)), ("", 0))
    if count > 1:
        raise DataError(f"{dataset.source}: {count} images are called {name_of(name)}; expected different names")
    entries = tuple(entry for entry in header.parts if entry.split == split)
    if not entries:
        return dataset
    images = read_detections(folder, dataclasses.replace(header, parts=entries)).images
    assert isinstance(images, ImagesOfSplits)
    rows = images.rows_in(0, dataset)
    same = images.same_files(rows, dataset)
    if same is not None and same < 1:
        raise DataError(
            f"{folder}: split {name_of(split)} holds detections of other image files with the names of those of "
            f"{dataset.source}; name another folder, or remove this one first"
        )
    images.check_sizes(rows, dataset)
    return dataclasses.replace(dataset, images=dataset.images.take(np.flatnonzero(rows < 0)))


class DetectionsWriter:
    """Writes what was predicted in images of a split, a few thousand images at a time.

    Used in a `with` block; what was added before an exception is written, too.

    Args:
        folder: Of stored detections.
        header: What the folder holds already.
        split: Name of the split.
        dataset: Its images.

    Attributes:
        header: What the folder holds now.
        boxes: Number of boxes that were added.
    """

    def __init__(self, folder: Path, header: DetectionsHeader, split: str, dataset: DetectionDataset) -> None:
        self.header, self.boxes = header, 0
        self._folder, self._split, self._dataset = folder, split, dataset
        self._indices: list[int] = []
        self._digests: list[int] = []
        self._columns: list[BoxColumns] = []

    def __enter__(self) -> Self:
        return self

    def add(self, indices: Sequence[int], digests: Sequence[int], found: Sequence[TeacherBoxes]) -> None:
        """Add images.

        Args:
            indices: Of the images in the dataset.
            digests: Number of the content of each file, see `file_digest`.
            found: What was predicted in each, in pixels of the image file.

        Raises:
            DetdistillError: The folder cannot be written.
        """
        self._indices += indices
        self._digests += digests
        self._columns.append(BoxColumns.of(found, self.header.top_k))
        if len(self._indices) >= IMAGES_OF_A_FILE:
            self._write()

    def __exit__(self, *_: object) -> None:
        if self._indices:
            self._write()

    def _write(self) -> None:
        images = self._dataset.images.take(self._indices)
        columns = BoxColumns.joined(self._columns)
        part = ImagesPart(
            self._split, images.file_names, images.sizes.astype(np.int32), np.array(self._digests), columns
        )
        self.header = write_part(self._folder, self.header, part)
        self.boxes += len(columns.boxes)
        self._indices, self._digests, self._columns = [], [], []


def _check_free(folder: Path) -> None:
    """Refuse a folder of other files; what an interrupted call left is no obstacle."""
    other = next((entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)), None)
    if other is not None:
        raise DetdistillError(
            f"{folder} holds {name_of(other)} and no {FILE_NAME}; expected a new folder or one of stored detections"
        )


def _identity(origin: Mapping[str, Any]) -> dict[str, Any]:
    """The hashes of a teacher, or all that is known of it if it has none: a path can be spelled in several ways."""
    hashes = {key: value for key, value in origin.items() if key.endswith("sha256") and value is not None}
    return hashes or dict(origin)
