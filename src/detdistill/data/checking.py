"""What a dataset must hold to be trained on, and the messages about it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detdistill.annotations import DetectionDataset, ImageRecord
from detdistill.data.assembly import shown
from detdistill.errors import LeftOutError, Problem, counted, grouped, listed, outcomes
from detdistill.image_options import ImageOptions

LARGEST_LOSS = 0.1
"""Largest share of annotations that may be left out as unreadable or invalid, or lost by resizing."""


def check_left_out(dataset: DetectionDataset) -> None:
    """Raise `LeftOutError` if more than a tenth of the annotations is unreadable or invalid."""
    left_out = sum(problem.count for problem in dataset.left_out)
    if left_out > LARGEST_LOSS * dataset.annotated:
        raise LeftOutError(dataset.source, left_out, dataset.annotated, dataset.left_out)


def training_problems(
    dataset: DetectionDataset, images: ImageOptions, *, difficult: bool, accept_left_out: bool
) -> list[Problem]:
    """Find what keeps a dataset from being trained on, or makes training less than it seems.

    Args:
        dataset: The training set.
        images: The detector's image size.
        difficult: Train on objects marked `difficult` too.
        accept_left_out: Train although more than a tenth of the objects is lost by resizing.

    Returns:
        Fatal problems: no object to train on, too many objects below one pixel. Others are notes: classes without an
        object, some objects below one pixel.
    """
    chosen = [~record.crowd & (~record.difficult | difficult) for record in dataset.images]
    counts = sum(
        (np.bincount(record.labels[kept], minlength=len(dataset.classes)) for record, kept in _pairs(dataset, chosen)),
        start=np.zeros(len(dataset.classes), dtype=np.int64),
    )
    if not counts.any():
        what = f"no object to train on in {counted(len(dataset.images), 'image')}"
        if not difficult and any((record.difficult & ~record.crowd).any() for record in dataset.images):
            what += "; all are marked difficult, to train on them set data.difficult: true"
        return [Problem(dataset.source, what, fatal=True)]
    problems = []
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if count == 0]
    if absent:
        what = f"no object of class {', '.join(map(shown, absent))}; the detector will not learn it"
        problems.append(Problem(dataset.source, what, unit="class", count=len(absent)))
    total = int(counts.sum())
    lost = sum(int((below_one_pixel(record, images) & kept).sum()) for record, kept in _pairs(dataset, chosen))
    if lost:
        size = f"letterbox {images.letterbox}" if images.letterbox else f"{images.short_side} to {images.long_side}"
        what = (
            f"{lost:,} of {counted(total, 'object')} are less than one pixel wide or high in resized images ({size} "
            "pixels); training leaves them out. Raise images.short_side and images.long_side"
        )
        is_fatal = lost > LARGEST_LOSS * total and not accept_left_out
        if is_fatal:
            what += ", or accept the loss with --accept-left-out (in a recipe: data.accept_left_out: true)"
        problems.append(Problem(dataset.source, what, fatal=is_fatal, unit="object", count=lost))
    return problems


def validation_problems(dataset: DetectionDataset, classes: Sequence[str] | None = None) -> list[Problem]:
    """Find what keeps a dataset from being validated on.

    Args:
        dataset: The validation set.
        classes: Classes of the training set; None: not compared.

    Returns:
        Fatal problems: no object, so no score; classes that the training set lacks.
    """
    problems = []
    if not any(len(record.labels) for record in dataset.images):
        what = (
            f"no object in {counted(len(dataset.images), 'image')}, so no score; choose another validation set, or "
            "none (data.val: null)"
        )
        problems.append(Problem(dataset.source, what, fatal=True))
    unknown = [name for name in dataset.classes if classes is not None and name not in classes]
    if unknown:
        what = (
            f"the training set lacks the {counted(len(unknown), 'class').partition(' ')[2]} "
            f"{', '.join(map(shown, unknown))}; rename them in the annotations or remove them"
        )
        problems.append(Problem(dataset.source, what, fatal=True, unit="class", count=len(unknown)))
    return problems


def below_one_pixel(record: ImageRecord, images: ImageOptions) -> NDArray[np.bool_]:
    """Which objects of an image are less than one pixel wide or high after resizing: a mask `(n,)`."""
    height, width = images.fitted((record.height, record.width))
    sides = (record.boxes[:, 2:] - record.boxes[:, :2]) * (width / record.width, height / record.height)
    small: NDArray[np.bool_] = (sides < 1).any(axis=1)
    return small


def reading_note(dataset: DetectionDataset, path: object) -> str | None:
    """Return the message about what was left out, changed or noted while reading; None if there is nothing."""
    if not dataset.problems:
        return None
    return (
        f"{dataset.source}: {outcomes(dataset.problems)}; `detdistill data inspect {path}` shows more:"
        f"{listed(grouped(dataset.problems))}"
    )


def _pairs(
    dataset: DetectionDataset, masks: Sequence[NDArray[np.bool_]]
) -> zip[tuple[ImageRecord, NDArray[np.bool_]]]:
    return zip(dataset.images, masks, strict=True)
