"""From what stands in annotation files to a `DetectionDataset`: boxes checked, objects grouped by image."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeGuard

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError, Outcome, Problem, counted
from detdistill.core.texts import has_half_character
from detdistill.data.box_forms import within_first_pixel, wrong_form
from detdistill.data.objects import Objects

UNKNOWN_SIZE = (10**9, 10**9)
"""Height and width of an image that will be refused anyway: keeps its boxes from being reported as outside."""

_ROUNDING = 0.02  # pixels that a box may reach out of its image because its numbers were rounded to two decimals
_SMALLEST_SIDE = 0.01  # pixels; float32 still tells such a box's corners apart at 10,000 px
_ROWS_AT_ONCE = 1 << 20  # boxes; bounds the memory of what is computed on the way
_LARGEST_NUMBER = 1e9  # keeps areas and sums far from overflow

_FLAGS = {"1": True, "true": True, "yes": True, "": False, "0": False, "false": False, "no": False}

_shortener = reprlib.Repr()
_shortener.maxstring = _shortener.maxother = 120
_shortener.maxlevel = 2


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """One image of an annotation file; the attributes are those of `ImageRecord`."""

    image_id: int | str
    path: Path
    file_name: str
    width: int
    height: int


def image_columns(entries: Sequence[ImageEntry]) -> ImageTable:
    """Return a table of these images, without objects."""
    return ImageTable.without_objects(
        [entry.image_id for entry in entries],
        [entry.file_name for entry in entries],
        [str(entry.path) for entry in entries],
        [(entry.height, entry.width) for entry in entries],
    )


def assemble(
    source: str,
    classes: Sequence[str],
    category_ids: Sequence[int],
    images: ImageTable,
    objects: Objects,
    problems: list[Problem],
) -> DetectionDataset:
    """Clips boxes to their images, leaves out those of which nothing remains, and groups the objects by image.

    Args:
        source: the annotation file, for messages.
        classes: class names.
        category_ids: the id that result files use for each class.
        images: all images, in order, without objects.
        objects: all objects.
        problems: what the reader found; what is found here is added.

    Raises:
        DataError: one of the problems is fatal; it lists all of them.
    """
    table = arranged(source, images, objects, problems)
    raise_fatal(source, problems)
    return DetectionDataset(source, tuple(classes), tuple(category_ids), table, tuple(problems))


def arranged(source: str, images: ImageTable, objects: Objects, problems: list[Problem]) -> ImageTable:
    """Return the images with their objects; the arguments are those of `assemble`.

    Where a problem is fatal, the objects cannot be used.
    """
    if not images:
        problems.append(Problem(source, "holds no image", fatal=True))
    boxes, kept = _checked(source, objects, images.sizes, problems)
    rows = np.flatnonzero(kept)
    rows = rows[np.argsort(objects.images[rows], kind="stable")]
    boxes, areas = boxes[rows], objects.areas[rows]
    return replace(
        images,
        starts=np.searchsorted(objects.images[rows], np.arange(len(images) + 1)),
        boxes=boxes,
        labels=objects.labels[rows],
        areas=np.where(np.isnan(areas), (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), areas),
        crowd=objects.crowd[rows],
        difficult=objects.difficult[rows],
        masks=None if objects.masks is None else objects.masks.take(rows),
    )


def _checked(
    source: str, objects: Objects, sizes: NDArray[np.int64], problems: list[Problem]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes clipped to images of these heights and widths `(n, 2)`, and which of them are left `(m,)`."""
    boxes = objects.boxes
    limits = sizes[:, ::-1].astype(np.float64)[objects.images]
    known = limits[:, 0] != UNKNOWN_SIZE[1]
    some = slice(None) if known.all() else known  # a slice is no copy
    form_fault = wrong_form(boxes[some], limits[some], objects.form)
    if form_fault is not None:
        problems.append(Problem(source, form_fault.what, fatal=form_fault.certain))
        if form_fault.certain:  # what is wrong with single boxes follows from it
            return boxes, np.ones(len(boxes), dtype=np.bool_)
    clipped, kept = np.empty_like(boxes), np.empty(len(boxes), dtype=np.bool_)
    for start in range(0, len(boxes), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        clipped[rows], kept[rows] = _inside(boxes[rows], limits[rows], objects, start, problems)
    return clipped, kept


def _inside(
    boxes: NDArray[np.float64], limits: NDArray[np.float64], objects: Objects, start: int, problems: list[Problem]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The same for some rows, the first of which is number `start` of all objects; `limits` is width and height."""
    corner, opposite = boxes[:, :2], boxes[:, 2:]
    swapped: NDArray[np.bool_] = np.any(opposite < corner, axis=1)
    upright = np.concatenate([np.minimum(corner, opposite), np.maximum(corner, opposite)], axis=1)
    clipped = np.minimum(np.maximum(upright, 0), np.tile(limits, 2))
    empty = _shortest_side(upright) < _SMALLEST_SIDE
    fractions = within_first_pixel(upright, limits) if objects.form != "fractions" else np.zeros_like(empty)
    kept = (_shortest_side(clipped) >= _SMALLEST_SIDE) & ~fractions
    reaching_out = np.abs(upright - clipped).max(axis=1, initial=0) > _ROUNDING
    for row in np.flatnonzero(~kept | reaching_out | swapped).tolist():
        corners = "({:g}, {:g}) to ({:g}, {:g})".format(*boxes[row])
        image = "image of {:.0f}x{:.0f} pixels".format(*limits[row])
        outcome: Outcome = "changed" if kept[row] else "left out"
        if empty[row]:
            fault, group = f"the box {corners} has no area", "the box has no area"
        elif fractions[row]:
            fault = f"the box {corners} lies within the first pixel of its {image}, as fractions would"
            group = "the box lies within the first pixel of its image, as fractions would"
        elif not kept[row]:
            fault, group = f"the box {corners} lies outside its {image}", "the box lies outside its image"
        elif swapped[row]:
            fault, group = f"the box {corners} has swapped corners", "the box has swapped corners"
        else:
            fault, group = f"the box {corners} reaches out of its {image}", "the box reaches out of its image"
        steps = ["swapped back"] * bool(swapped[row]) + ["clipped"] * bool(reaching_out[row]) if kept[row] else []
        done = " and ".join(steps) or "left out"
        place = objects.place(start + row)
        problems.append(
            Problem(place, f"{fault}; {done}", outcome=outcome, unit="annotation", group=f"{group}; {done}")
        )
    return clipped, kept


def _shortest_side(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n,)` shorter side of boxes `(n, 4)`, in pixels."""
    shortest: NDArray[np.float64] = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=math.inf)
    return shortest


def raise_fatal(source: str, problems: Sequence[Problem]) -> None:
    """Raise a `DataError` that lists all problems, the fatal ones first, if there is a fatal one."""
    fatal = sum(problem.fatal for problem in problems)
    if fatal:
        verb = "makes" if fatal == 1 else "make"
        fatal_first = sorted(problems, key=lambda problem: not problem.fatal)
        raise DataError(f"{source}: {counted(fatal, 'problem')} {verb} the dataset unusable", fatal_first)


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value from a file is a number of a size that a box in pixels can have: finite, below 10^9."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER


def are_numbers(values: NDArray[np.float64] | NDArray[np.int64]) -> bool:
    """Return whether all values are such numbers."""
    return bool((np.abs(values) < _LARGEST_NUMBER).all())


def is_text(value: object) -> TypeGuard[str]:
    """Whether a value from a file is a text that can be printed and written again (JSON can hold half characters)."""
    return isinstance(value, str) and value != "" and not has_half_character(value)


def to_number(text: str | None) -> float | None:
    """The number that a text holds; None if it holds none or one that `is_number` refuses."""
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if is_number(value) else None


def to_flag(text: str) -> bool | None:
    """The truth value that a text holds, such as `1`, `true`, `No`; None if it holds none."""
    return _FLAGS.get(text.strip().lower())


def shown(value: object) -> str:
    """A value from a file, for messages: shortened, with everything unprintable escaped."""
    return _shortener.repr(value)
