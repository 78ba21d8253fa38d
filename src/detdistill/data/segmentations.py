"""The `segmentation` of a COCO annotation or detection: polygons, or RLE with a text or a list of run lengths."""

from __future__ import annotations

from dataclasses import dataclass

from detdistill.core.errors import DataError
from detdistill.core.rle import Size, area_of, is_blank, rle_of_counts, rle_of_polygons
from detdistill.data.assembly import UNKNOWN_SIZE, is_number, shown

_EXPECTED = "must be polygons (lists x1, y1, x2, y2 …) or RLE ('size' and 'counts')"
_NO_MASK = "the object has no mask"


@dataclass(frozen=True)
class MaskFault:
    """Why a mask, or a part of it, cannot be used.

    Attributes:
        what: What is wrong.
        group: The same without the entry's own values.
        done: What was done about it.
    """

    what: str
    group: str
    done: str = _NO_MASK


@dataclass(frozen=True)
class Segmentation:
    """A mask as it was read.

    Attributes:
        rle: COCO's RLE at the image's size; empty if there is no mask.
        faults: What is wrong with it.
    """

    rle: str
    faults: tuple[MaskFault, ...] = ()


def read_segmentation(value: object, size: Size, *, may_be_empty: bool = False) -> Segmentation:
    """Read the mask of an object.

    Polygons of fewer than three points are left out; one list of numbers is taken for one polygon. A mask of another
    size than the image's, and one that does not decode, is none.

    Args:
        value: The entry of the file; None, an empty list and an empty object are no mask.
        size: Height and width of the image in pixels.
        may_be_empty: A mask may have no pixel.
    """
    if value is None or value in ([], {}) or size == UNKNOWN_SIZE:
        return Segmentation("")
    if not isinstance(value, list | dict):
        return _refused(f"{_EXPECTED}, is {shown(value)}", _EXPECTED)
    read = _of_polygons(value, size) if isinstance(value, list) else _of_rle(value, size)
    if not read.rle or may_be_empty or not is_blank(read.rle):
        return read
    return _refused("the mask covers no pixel", "the mask covers no pixel", *read.faults)


def _of_polygons(parts: list[object], size: Size) -> Segmentation:
    faults = []
    if _are_numbers(parts):
        faults.append(MaskFault("is one list of numbers", "is one list of numbers", "read as one polygon"))
        parts = [parts]
    polygons: list[list[float]] = []
    for part in parts:
        if not isinstance(part, list) or not _are_numbers(part):
            return _refused(f"{_EXPECTED}, has {shown(part)}", _EXPECTED)
        if len(part) % 2 == 0 and len(part) < 6:
            group = "a polygon has fewer than three points"
            faults.append(MaskFault(f"{group}, {shown(part)}", group, "the polygon is left out"))
        else:
            polygons.append(part)
    if not polygons:
        return Segmentation("", (*faults, MaskFault("no polygon is left", "no polygon is left")))
    try:
        return Segmentation(rle_of_polygons(polygons, size), tuple(faults))
    except DataError as error:
        return _refused(str(error), "a polygon has half a point, or lies far outside its image", *faults)


def _of_rle(value: dict[str, object], size: Size) -> Segmentation:
    own, counts = value.get("size"), value.get("counts")
    if not (isinstance(own, list) and len(own) == 2 and all(map(is_number, own))):
        return _refused(f"{_EXPECTED}; size is {shown(own)}", _EXPECTED)
    if tuple(own) != size:
        what = f"the mask of {own[1]:g}x{own[0]:g} pixels is in an image of {size[1]}x{size[0]}"
        return _refused(what, "the mask has another size than its image")
    group = "the RLE does not decode"
    try:
        if isinstance(counts, str) and counts:
            # Other programs may write runs of no pixel.
            return Segmentation(counts if area_of(counts, size) else rle_of_counts([size[0] * size[1]], size))
        if isinstance(counts, list) and all(is_number(count) and count % 1 == 0 for count in counts):
            return Segmentation(rle_of_counts([int(count) for count in counts], size))
    except DataError as error:
        return _refused(f"{group} ({error})", group)
    return _refused(f"{group} (counts are {shown(counts)})", group)


def _are_numbers(values: list[object]) -> bool:
    return {*map(type, values)} <= {int, float}


def _refused(what: str, group: str, *before: MaskFault) -> Segmentation:
    return Segmentation("", (*before, MaskFault(what, group)))
