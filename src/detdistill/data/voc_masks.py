"""PASCAL VOC's `SegmentationObject`: an image for each image, in which each object has a colour of its own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import DataError, Problem
from detdistill.core.images import Size, read_image
from detdistill.core.instance_masks import trimmed
from detdistill.core.rle import Window, rle_of_window
from detdistill.data.objects import Box

FOLDER = "segmentationobject"
"""Name of the folder beside the annotations, in lower case."""

LEAST_IOU = 0.5
"""Overlap of an object's box and the box of a mask from which on they may be the same object's."""

_NO_OBJECT = (0x000000, 0xE0E0C0, 0xFFFFFF)
"""Colours of the background and of the border around objects: VOC's, and 255 in a grey image."""


def read_masks(
    file: Path, size: Size, boxes: Sequence[Box], places: Sequence[str], problems: list[Problem]
) -> list[str]:
    """Return the mask of each object as RLE, an empty text for an object without one.

    An object gets the mask whose box overlaps most with its own, the pairs with the highest IoU first.

    Args:
        file: The image of masks.
        size: Height and width of the image in pixels.
        boxes: The objects' boxes, x1 y1 x2 y2 in pixels.
        places: Where each object stands, for messages.
        problems: Objects without a mask, masks without an object, and why the file cannot be used are added.
    """
    try:
        found = _masks(file, size)
    except DataError as error:
        what = str(error).removeprefix(f"{file}: ")
        done = "the objects of the image have no masks"
        problems.append(Problem(str(file), f"{what}; {done}", outcome="changed", unit="image"))
        return [""] * len(boxes)
    texts = [""] * len(boxes)
    iou = _iou(np.array(boxes, dtype=float), np.array([window for _, window in found], dtype=float))
    free = np.ones_like(iou, dtype=bool)
    for pair in np.argsort(-iou, axis=None, kind="stable").tolist():
        row, column = divmod(pair, len(found))
        if iou[row, column] < LEAST_IOU:
            break
        if free[row, column]:
            texts[row] = found[column][0]
            free[row], free[:, column] = False, False
    for text, place in zip(texts, places, strict=True):
        if not text:
            group = f"no mask has a box of IoU {LEAST_IOU:g} or more with the object's; the object has no mask"
            problems.append(Problem(place, f"{file.name}: {group}", outcome="changed", unit="annotation", group=group))
    spare = len(found) - sum(map(bool, texts))
    if spare:
        what = f"masks that belong to no object: {spare}; left out"
        group = "masks that belong to no object; left out"
        problems.append(Problem(str(file), what, outcome="left out", unit="mask", count=spare, group=group))
    return texts


def _masks(file: Path, size: Size) -> list[tuple[str, Window]]:
    """The RLE of each mask and its box.

    Raises:
        DataError: The file cannot be read, or has another size than the image.
    """
    pixels = read_image(file)
    if pixels.shape[:2] != size:
        height, width = pixels.shape[:2]
        raise DataError(f"{file}: the masks have {width}x{height} pixels, and their image has {size[1]}x{size[0]}")
    colors = pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], dtype=np.uint32)
    masks = []
    for color in np.setdiff1d(colors, _NO_OBJECT):
        crop, window = trimmed(colors == color)
        masks.append((rle_of_window(crop, window, size), window))
    return masks


def _iou(boxes: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(n, m)` intersection over union; boxes with swapped corners overlap with nothing."""
    boxes, others = boxes.reshape(-1, 1, 4), others.reshape(1, -1, 4)
    sides = np.minimum(boxes[..., 2:], others[..., 2:]) - np.maximum(boxes[..., :2], others[..., :2])
    shared = sides.clip(min=0).prod(axis=2)
    areas, other_areas = (np.prod(each[..., 2:] - each[..., :2], axis=2) for each in (boxes, others))
    overlap: NDArray[np.float64] = shared / np.maximum(areas + other_areas - shared, 1e-9)
    return overlap
