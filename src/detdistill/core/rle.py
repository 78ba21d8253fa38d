"""Instance masks as COCO's run lengths, packed into text (`counts` of a compressed RLE).

The runs of a mask alternate between background and object, down the columns, beginning with background. The text holds
each run as a difference from the last but one, in groups of five bits (cocoapi, `common/maskApi.c`, `rleToString`).
Masks are NumPy arrays here; nothing needs torch. faster-coco-eval is imported where it is needed: it takes a tenth of a
second, and datasets are mostly read without masks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import DataError

Size = tuple[int, int]
Bitmap = NDArray[np.uint8]

_FIRST = 48  # the character of the value 0
_BITS = 5
_MORE, _SIGN = 0x20, 0x10
_LONGEST = 7  # groups of five bits of one run; a longer one is no length in an image

Window = tuple[int, int, int, int]
"""x1 y1 x2 y2 in whole pixels, x2 and y2 excluded."""


def rle_of_bitmap(bitmap: NDArray[np.uint8] | NDArray[np.bool_]) -> str:
    """Return the RLE of a mask `(H, W)`, in which every value but 0 is the object."""
    height, width = bitmap.shape
    return rle_of_window(bitmap, (0, 0, width, height), (height, width))


def rle_of_window(crop: NDArray[np.uint8] | NDArray[np.bool_], window: Window, size: Size) -> str:
    """Return the RLE of a mask that is 0 outside a window.

    Args:
        crop: `(h, w)` the mask inside the window; every value but 0 is the object.
        window: Where it lies.
        size: Height and width of the whole mask.
    """
    height, width = size
    columns = np.zeros((crop.shape[1], crop.shape[0] + 2), dtype=np.int8)
    columns[:, 1:-1] = crop.T != 0
    steps = np.diff(columns, axis=1)
    (first, top), (last, bottom) = np.nonzero(steps == 1), np.nonzero(steps == -1)
    starts = (window[0] + first) * height + window[1] + top
    ends = (window[0] + last) * height + window[1] + bottom
    # A run that ends with its column goes on where the next column begins with the object.
    parted = np.flatnonzero(starts[1:] != ends[:-1]) + 1
    firsts, lasts = np.append(0, parted)[: len(starts)], np.append(parted - 1, len(ends) - 1)[: len(ends)]
    edges = np.stack((starts[firsts], ends[lasts]), axis=1).reshape(-1)
    lengths = np.diff(np.concatenate([[0], edges, [height * width]]))
    return _packed(lengths if lengths[-1] else lengths[:-1], size)


def rle_of_counts(counts: Sequence[int], size: Size) -> str:
    """Return the RLE of uncompressed run lengths.

    Raises:
        DataError: A length is negative, or they are not as many pixels as `size` (height, width) has.
    """
    lengths = np.asarray(counts, dtype=np.int64)
    fault = _fault(lengths, size)
    if fault is not None:
        raise DataError(f"counts: {fault}")
    return _packed(lengths if lengths[1::2].any() else np.array([size[0] * size[1]]), size)


def rle_of_polygons(polygons: Sequence[Sequence[float]], size: Size) -> str:
    """Return the RLE of an object's polygons, as COCO draws them.

    Args:
        polygons: The object's parts, each x1 y1 x2 y2 … in pixels, of at least three points.
        size: Height and width of the image.

    Raises:
        DataError: There is no polygon, one has fewer than three points or half a point, or it reaches out of the image
            by more than the image's longer side.
    """
    if not polygons:
        raise DataError("there is no polygon; expected at least one")
    reach = max(size)
    for number, polygon in enumerate(polygons, start=1):
        if len(polygon) % 2 or len(polygon) < 6:
            raise DataError(
                f"polygon {number} has {len(polygon)} numbers; expected x and y of at least three points (6 numbers)"
            )
        try:
            corners = np.asarray(polygon, dtype=np.float64).reshape(-1, 2)
        except OverflowError as error:  # a whole number of more than 308 digits
            raise DataError(f"polygon {number} has a number that is no place in an image") from error
        # The rasteriser steps along each edge: a far point costs memory without end. NaN fails the comparison, too.
        if not ((corners >= -reach) & (corners <= np.array(size[::-1]) + reach)).all():
            raise DataError(
                f"polygon {number} reaches out of the image of {size[1]}x{size[0]} pixels by more than its longer side"
            )
    from faster_coco_eval.core import mask as mask_api

    parts = mask_api.frPyObjects([[float(value) for value in polygon] for polygon in polygons], *size)
    return str((parts[0] if len(parts) == 1 else mask_api.merge(parts))["counts"], "ascii")


def is_blank(text: str) -> bool:
    """Return whether an RLE that was made here has no pixel of the object, without decoding it."""
    # A run ends with a character whose bit for more is not set; a mask without a pixel is one run.
    return len(text) <= _LONGEST and sum(ord(character) - _FIRST < _MORE for character in text) < 2


def bitmap_of(text: str, size: Size) -> Bitmap:
    """Return the mask `(H, W)`, 0 or 1, of an RLE of `size` (height, width); of an empty text one of zeros."""
    bitmap = np.zeros(size, dtype=np.uint8)
    crop, (x1, y1, x2, y2) = cropped(text, size)
    bitmap[y1:y2, x1:x2] = crop
    return bitmap


def cropped(text: str, size: Size) -> tuple[Bitmap, Window]:
    """Return the part of a mask that holds the object.

    Args:
        text: The RLE.
        size: Height and width of the mask.

    Returns:
        The smallest part with all pixels of the object, `(h, w)` of 0 and 1, and where it lies; without any pixel an
        empty part and a window of zeros.

    Raises:
        DataError: As in `area_of`.
    """
    height = size[0]
    lengths = _checked_lengths(text, size)
    ends = np.cumsum(lengths)
    runs = np.flatnonzero(lengths[1::2]) * 2 + 1  # the runs of the object
    if not len(runs):
        return np.zeros((0, 0), np.uint8), (0, 0, 0, 0)
    first, last = runs[0], runs[-1]
    start, stop = int(ends[first - 1]), int(ends[last])
    x1, x2 = start // height, -(-stop // height)
    inner = np.repeat(np.arange(first, last + 1).astype(np.uint8) & 1, lengths[first : last + 1])
    columns = np.zeros((x2 - x1) * height, dtype=np.uint8)
    columns[start - x1 * height : stop - x1 * height] = inner
    whole = columns.reshape(x2 - x1, height).T
    rows = np.flatnonzero(whole.any(axis=1))
    y1, y2 = int(rows[0]), int(rows[-1]) + 1
    return np.ascontiguousarray(whole[y1:y2]), (x1, y1, x2, y2)


def area_of(text: str, size: Size) -> int:
    """Return the number of pixels of the object in an RLE of `size` (height, width).

    Raises:
        DataError: The text does not decode, or not to as many pixels as `size` has.
    """
    return int(_checked_lengths(text, size)[1::2].sum())


def box_of(text: str, size: Size) -> Window:
    """Return the smallest box around the object in an RLE of `size` (height, width); zeros without any pixel."""
    return cropped(text, size)[1]


def resized(text: str, size: Size, new_size: Size) -> str:
    """Return the RLE of a mask at another size; each pixel takes the value of the nearest one.

    Args:
        text: The RLE.
        size: Height and width of the mask.
        new_size: Those of the wanted one.
    """
    bitmap = bitmap_of(text, size)
    rows, columns = (nearest(new, old) for new, old in zip(new_size, size, strict=True))
    return rle_of_bitmap(bitmap[rows][:, columns])


def nearest(length: int, original: int) -> NDArray[np.int64]:
    """Return the pixel of an axis of `original` pixels that lies nearest to each of the resized one's `(length,)`.

    The middle of a pixel decides, as boxes are scaled; torch calls this `nearest-exact`.
    """
    return (2 * np.arange(length, dtype=np.int64) + 1) * original // (2 * length)


def _packed(lengths: NDArray[np.int64], size: Size) -> str:
    from faster_coco_eval.core import mask as mask_api

    return str(mask_api.frPyObjects({"size": list(size), "counts": lengths.tolist()}, *size)["counts"], "ascii")


def _checked_lengths(text: str, size: Size) -> NDArray[np.int64]:
    if not text:
        return np.array([size[0] * size[1]], dtype=np.int64)
    lengths = _lengths(text)
    fault = "the text does not decode" if lengths is None else _fault(lengths, size)
    if lengths is None or fault is not None:
        raise DataError(f"counts: {fault}")
    return lengths


def _fault(lengths: NDArray[np.int64], size: Size) -> str | None:
    if (lengths < 0).any():
        return "a run has a negative length"
    pixels = size[0] * size[1]
    # Summed as floats: whole numbers of a file can overflow.
    if lengths.sum(dtype=np.float64) != pixels:
        return (
            f"the runs cover {lengths.sum(dtype=np.float64):.0f} pixels; expected {pixels} ({size[0]} rows times "
            f"{size[1]} columns)"
        )
    return None


def _lengths(text: str) -> NDArray[np.int64] | None:
    """Return the run lengths of an RLE's text; None if it does not decode."""
    try:
        values = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - _FIRST
    except UnicodeEncodeError:
        return None
    if not len(values) or values.min() < 0 or values.max() > (_MORE | _MORE - 1) or values[-1] & _MORE:
        return None
    ends = np.flatnonzero((values & _MORE) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    groups = ends - starts + 1
    if groups.max() > _LONGEST:
        return None
    place = np.arange(len(values)) - np.repeat(starts, groups)
    numbers = np.add.reduceat((values & (_MORE - 1)) << (_BITS * place), starts)
    numbers = np.where(values[ends] & _SIGN, numbers - (np.int64(1) << (_BITS * groups)), numbers)
    # From the fourth run on, a number is the difference from the run before the last.
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    lengths: NDArray[np.int64] = numbers
    return lengths
