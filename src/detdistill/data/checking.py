"""What a dataset must hold to be trained on, and the messages about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import LeftOutError, Problem, counted, grouped, listed, outcomes
from detdistill.core.image_options import ImageOptions
from detdistill.data.assembly import shown

LARGEST_LOSS = 0.1
"""Largest share of annotations that may be left out as unreadable or invalid, or lost by resizing."""


@dataclass(frozen=True)
class Checks:
    """What a dataset is checked for.

    Attributes:
        images: Image size of the detector.
        difficult: Train on objects marked `difficult` too.
        accept_left_out: Accept that more than a tenth of the annotations is unusable, or lost by resizing.
        rescale: Rescale boxes that were annotated for another size of the image.
    """

    images: ImageOptions = field(default_factory=ImageOptions)
    difficult: bool = False
    accept_left_out: bool = False
    rescale: bool = False


def check_left_out(dataset: DetectionDataset) -> None:
    """Raise `LeftOutError` if more than a tenth of the annotations is unreadable or invalid."""
    left_out = sum(problem.count for problem in dataset.left_out)
    if left_out > LARGEST_LOSS * dataset.annotated:
        raise LeftOutError(dataset.source, left_out, dataset.annotated, dataset.left_out)


def check_masks(dataset: DetectionDataset) -> DetectionDataset:
    """Return a dataset that was read with masks, with a note of objects that have none; without masks if all lack them.

    An object without a mask keeps its box, and has no part in the loss and the scores of masks.
    """
    masks, objects = dataset.images.masks, len(dataset.images.labels)
    lacking = objects if masks is None else int((np.diff(masks.starts) == 0).sum())
    if masks is not None and lacking == 0:
        return dataset
    images = dataset.images if lacking < objects else replace(dataset.images, masks=None)
    what = (
        f"{lacking:,} of {counted(objects, 'object')} have no mask; they keep their boxes, and have no part in the "
        "loss and the scores of masks"
        if lacking < objects
        else "no object has a mask; the dataset is read without masks"
    )
    problem = Problem(dataset.source, what, unit="object", count=lacking)
    return replace(dataset, images=images, problems=(*dataset.problems, problem))


def usability_problems(
    dataset: DetectionDataset, checks: Checks, *, held_out: bool, classes: Sequence[str] | None
) -> list[Problem]:
    """Find why training would refuse a dataset, or lose some of it.

    Args:
        dataset: A split, opened with `accept_left_out`.
        checks: What is checked.
        held_out: Whether the split is for validation or test, not for training.
        classes: Classes of the training set, for a validation set; None: not compared.
    """
    problems = []
    if not checks.accept_left_out:
        try:
            check_left_out(dataset)
        except LeftOutError as error:
            what = error.summary.removeprefix(f"{dataset.source}: ")
            problems.append(Problem(dataset.source, what, fatal=True))
    if held_out:
        problems += validation_problems(dataset, classes)
        # Held-out objects below one pixel cost score, but do not keep a detector from being trained.
        problems += resizing_problems(dataset, checks.images, difficult=checks.difficult, accept_left_out=True)
    else:
        problems += training_problems(
            dataset, checks.images, difficult=checks.difficult, accept_left_out=checks.accept_left_out
        )
    return problems


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
    objects = dataset.images
    trained_on = _trained_on(objects, difficult=difficult)
    counts = np.bincount(objects.labels[trained_on], minlength=len(dataset.classes))
    if not counts.any():
        what = f"no object to train on in {counted(len(dataset.images), 'image')}"
        if (objects.difficult & ~objects.crowd).any():
            what += "; all are marked difficult and ignored, to train on them set data.difficult: true"
        return [Problem(dataset.source, what, fatal=True)]
    problems = resizing_problems(dataset, images, difficult=difficult, accept_left_out=accept_left_out)
    absent = [name for name, count in zip(dataset.classes, counts, strict=True) if count == 0]
    if absent:
        what = f"no object of class {', '.join(map(shown, absent))}; the detector will not learn it"
        problems.append(Problem(dataset.source, what, unit="class", count=len(absent)))
    return problems


def resizing_problems(
    dataset: DetectionDataset, images: ImageOptions, *, difficult: bool, accept_left_out: bool
) -> list[Problem]:
    """Count the objects that are less than one pixel wide or high in resized images; arguments as above."""
    chosen = _trained_on(dataset.images, difficult=difficult)
    total, lost = int(chosen.sum()), int((below_one_pixel(dataset.images, images) & chosen).sum())
    if lost == 0:
        return []
    size = f"letterbox {images.letterbox}" if images.letterbox else f"{images.short_side} to {images.long_side}"
    what = (
        f"{lost:,} of {counted(total, 'object')} are less than one pixel wide or high in resized images ({size} "
        "pixels) and are lost in training; raise images.short_side and images.long_side"
    )
    is_fatal = lost > LARGEST_LOSS * total and not accept_left_out
    if is_fatal:
        what += ", or accept the loss with --accept-left-out (in a recipe: data.accept_left_out: true)"
    return [Problem(dataset.source, what, fatal=is_fatal, unit="object", count=lost)]


def validation_problems(dataset: DetectionDataset, classes: Sequence[str] | None = None) -> list[Problem]:
    """Find what keeps a dataset from being validated on.

    Args:
        dataset: The validation set.
        classes: Classes of the training set; None: not compared.

    Returns:
        Fatal problems: no object, so no score; classes that the training set lacks.
    """
    problems = []
    if not len(dataset.images.labels):
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


def below_one_pixel(table: ImageTable, images: ImageOptions) -> NDArray[np.bool_]:
    """Which objects of all images are less than one pixel wide or high after resizing: a mask `(m,)`."""
    sizes, size_of = table.distinct_sizes
    fitted = [images.fitted(size) for size in sizes]
    scales = np.array([(to[1] / own[1], to[0] / own[0]) for own, to in zip(sizes, fitted, strict=True)]).reshape(-1, 2)
    sides = (table.boxes[:, 2:] - table.boxes[:, :2]) * scales[size_of[table.image_of_object]]
    small: NDArray[np.bool_] = np.any(sides < 1, axis=1)
    return small


def reading_note(dataset: DetectionDataset, path: object) -> str | None:
    """Return the message about what was left out, changed or noted while reading; None if there is nothing."""
    if not dataset.problems:
        return None
    return (
        f"{dataset.source}: {outcomes(dataset.problems)}; `detdistill data inspect {path}` shows more:"
        f"{listed(grouped(dataset.problems))}"
    )


def _trained_on(images: ImageTable, *, difficult: bool) -> NDArray[np.bool_]:
    """Which objects of all images training uses: a mask `(m,)`."""
    return ~images.crowd if difficult else ~images.crowd & ~images.difficult
