"""Boxes of a whole file that are written in another form than its format asks for: fractions, percent, corners."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Form = Literal["corners", "sides", "fractions"]
"""How a format writes a box: x1 y1 x2 y2 in pixels; x y width height in pixels; fractions of the image's size."""

_SMALLEST_IMAGE = 16  # pixels; in smaller images, a box within the first pixel may be meant
_FRACTIONS_END = 1.5  # largest x2 and y2 of fractions: a box may reach out of its image
_PERCENT_IMAGE = 150  # pixels; smaller images may have all boxes within the first 100 pixels
_FEW = 3, 10  # boxes; with fewer, a file of corners or of percent can be a coincidence


@dataclass(frozen=True)
class FormFault:
    """Boxes that look as if they were written in another form.

    Attributes:
        what: What was found, what was expected, and how to fix it.
        certain: Whether the boxes cannot be meant as they are; otherwise there are too few to tell.
    """

    what: str
    certain: bool


def wrong_form(boxes: NDArray[np.float64], sizes: NDArray[np.float64], form: Form) -> FormFault | None:
    """Find out whether boxes were written in another form than `form`.

    Args:
        boxes: `(n, 4)`, x1 y1 x2 y2 in pixels if the file is in the right form; unchecked.
        sizes: `(n, 2)`, width and height in pixels of each box's image.
        form: The form that the format asks for. Fractions are not examined here.

    Returns:
        The fault; None if the boxes are in the right form.
    """
    if form == "fractions" or len(boxes) == 0:
        return None
    return _unit_fault(boxes, sizes) or _corner_fault(boxes, sizes, form)


def within_first_pixel(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the boxes `(n, 4)` look like fractions of the sizes `(n, 2)` of their images: a mask `(n,)`."""
    has_fraction: NDArray[np.bool_] = np.any(boxes % 1 != 0, axis=1)
    within: NDArray[np.bool_] = has_fraction & (boxes.max(axis=1) <= 1) & (sizes.min(axis=1) >= _SMALLEST_IMAGE)
    return within


def _unit_fault(boxes: NDArray[np.float64], sizes: NDArray[np.float64]) -> FormFault | None:
    first_pixel = (boxes.max(axis=1) <= _FRACTIONS_END) & (sizes.min(axis=1) >= _SMALLEST_IMAGE)
    if first_pixel.mean() > 0.5:
        what = (
            f"{first_pixel.sum():,} of {len(boxes):,} boxes lie within the first pixel of their images, so they seem "
            "to be fractions of the image's size; expected pixels. Multiply x by the width and y by the height"
        )
        # Whole numbers may be boxes of one pixel.
        return FormFault(what, certain=bool((boxes[first_pixel] % 1 != 0).any()))
    reach = boxes.max(axis=0)[2:]
    within_hundred = boxes.min() >= -0.5 and reach.max() <= 100.5 and reach.min() >= 80
    if within_hundred and np.median(sizes.min(axis=1)) >= _PERCENT_IMAGE and len(boxes) >= _FEW[0]:
        what = (
            "all boxes lie between 0 and 100 although the images are larger, so they seem to be percent of the "
            "image's size; expected pixels. Multiply x by width / 100 and y by height / 100"
        )
        return FormFault(what, certain=len(boxes) >= _FEW[1])
    return None


def _corner_fault(boxes: NDArray[np.float64], sizes: NDArray[np.float64], form: Form) -> FormFault | None:
    start, end = boxes[:, :2], boxes[:, 2:]
    if form == "sides":
        written = end - start  # the third and fourth number of the file
        misfit, share = end > 1.05 * sizes, 0.2
        fits = (written > start) & (written <= sizes + 1)
        what = (
            "the boxes reach out of their images as x, y, width, height and fit as x1, y1, x2, y2; expected x, y, "
            "width, height. Subtract x from the third number and y from the fourth"
        )
    else:
        misfit, share = end < start, 0.5
        fits = start + end <= sizes + 2
        what = (
            "the boxes have swapped corners as x1, y1, x2, y2 and fit their images as x, y, width, height; expected "
            "x1, y1, x2, y2. Add x to the third number and y to the fourth"
        )
    if misfit.any(axis=1).mean() < share or fits.all(axis=1).mean() < 0.95:
        return None
    return FormFault(what, certain=len(boxes) >= _FEW[0])
