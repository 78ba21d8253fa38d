"""COCO-results files as stored detections: one class with its score for each box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem, counted
from detdistill.core.texts import name_of
from detdistill.data.results_entries import Unknown, images_of, known_classes, known_images, labels_of, read_entries
from detdistill.data.stored_detections import BoxColumns, StoredDetections
from detdistill.data.stored_images import ImagesByPath

ROUNDING = 1e-5
"""By how much a probability may be above 1: half precision and sums of a softmax are not exact."""
_NAMED = 3  # ids that a note names


@dataclass(frozen=True, eq=False)
class StoredResults:
    """What a COCO-results file holds of a dataset.

    Attributes:
        detections: Of every image of the dataset; the classes are those of the dataset.
        notes: What was left out or changed, a line each.
    """

    detections: StoredDetections
    notes: tuple[str, ...]


def read_stored_results(path: Path, dataset: DetectionDataset) -> StoredResults:
    """Read a COCO-results file as stored detections of a dataset.

    Images without an entry have no detections. Entries of other images and classes are left out, boxes are clipped to
    their image; the notes count both. The floor is the least score in the file.

    Args:
        path: The file; see `images_of` and `labels_of` for how entries name images and classes.
        dataset: Its ids and names count.

    Raises:
        DataError: The file cannot be read, holds no detection of the dataset, a malformed entry, or a score above 1.
    """
    entries = read_entries(path)
    if not entries:
        raise DataError(f"{path} holds no detections; expected a list with at least one of {dataset.source}")
    _check_scores(path, entries)
    images, unknown_images = images_of(entries, dataset)
    labels, unknown_classes = labels_of(entries, dataset)
    notes = []
    for noun, found, unknown, known in (
        ("image", images, unknown_images, known_images(dataset)),
        ("class", labels, unknown_classes, known_classes(dataset)),
    ):
        if (found < 0).all():
            raise DataError(
                f"{path} names no {noun} of {dataset.source}: {_few(unknown)}; expected some of the {known}"
            )
        if unknown:
            count = counted(int((found < 0).sum()), "detection")
            notes.append(f"{count} left out, of {counted(len(unknown), noun)} not among the {known}: {_few(unknown)}")
    kept = np.flatnonzero((images >= 0) & (labels >= 0))
    corners = _corners(entries, kept)
    clipped = np.clip(corners, 0, np.tile(dataset.images.sizes[images[kept], ::-1], 2))
    sides = clipped[:, 2:] - clipped[:, :2]
    inside = (sides > 0).all(axis=1)
    if outside := int((~inside).sum()):
        notes.append(f"{counted(outside, 'box')} left out, with no area inside the image")
    if changed := int((inside & (np.abs(clipped - corners) > 1).any(axis=1)).sum()):
        notes.append(f"{counted(changed, 'box')} reached out of the image by more than a pixel and were clipped")
    kept, clipped = kept[inside], clipped[inside]
    if not len(kept):
        raise DataError(f"{path} holds no detection of {dataset.source} that can be used: {'; '.join(notes)}")
    scores = np.array([entries[number]["score"] for number in kept], dtype=float).clip(max=1)
    counts = np.bincount(images[kept], minlength=len(dataset.images))
    if empty := int((counts == 0).sum()):
        share = f"{100 * empty / len(counts):.0f} %"
        notes.append(f"{empty:,} of {counted(len(counts), 'image')} ({share}) have no detection")
    order = np.lexsort((-scores, images[kept]))
    columns = BoxColumns(
        np.cumsum([0, *counts], dtype=np.int64),
        clipped[order].astype(np.float32),
        labels[kept][order, None].astype(np.int32),
        scores[order, None].astype(np.float32),
    )
    stored = StoredDetections(dataset.classes, ImagesByPath(dataset.images.paths), columns, float(scores.min()))
    return StoredResults(stored, tuple(notes))


def _corners(entries: Sequence[Any], kept: NDArray[np.int64]) -> NDArray[np.float64]:
    """`(k, 4)` x1 y1 x2 y2 of some entries."""
    boxes = np.array([entries[number]["bbox"] for number in kept], dtype=float).reshape(-1, 4)
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _check_scores(path: Path, entries: Sequence[Any]) -> None:
    problems = [
        Problem(f"entry {number}", f"score {entry['score']!r} is above 1", fatal=True)
        for number, entry in enumerate(entries)
        if entry["score"] > 1 + ROUNDING
    ]
    if problems:
        raise DataError(
            f"{path} has scores that are no probabilities; expected 0 to 1. Entries counted from 0:", problems
        )


def _few(unknown: Unknown) -> str:
    some = ", ".join(name_of(repr(what)) for what in islice(unknown, _NAMED))
    return some + (", …" if len(unknown) > _NAMED else "")
