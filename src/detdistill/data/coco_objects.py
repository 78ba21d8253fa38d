"""The annotations of a COCO file: ids, boxes, areas and flags, also where they are written as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from detdistill.core.errors import Problem
from detdistill.data.assembly import Box, Objects, is_number, shown, to_flag, to_number

_WHOLE = re.compile(r"([+-]?\d{1,18})(\.0*)?", re.ASCII)


class Ids:
    """Ids of a file, and the indices that they stand for.

    An id that is written in another way, `"17"` or `17.0` for 17, is found as long as it can only mean one.

    Args:
        index_of: Index of every id.
    """

    def __init__(self, index_of: Mapping[Any, int]) -> None:
        self._index_of = dict(index_of)
        self._index_of_number: dict[int, int | None] = {}
        for own_id, index in index_of.items():
            number = whole_number(own_id)
            if number is not None:
                self._index_of_number[number] = None if number in self._index_of_number else index

    def find(self, value: object) -> tuple[int | None, bool]:
        """Return the index of an id, None if there is none, and whether the id was written as in the file."""
        if type(value) in (int, str) and value in self._index_of:
            return self._index_of[value], True
        number = whole_number(value)
        return (None if number is None else self._index_of_number.get(number)), False


def whole_number(value: object) -> int | None:
    """Return the whole number that an id is, as in 17, 17.0, "17" and "17.0"; None if it is none."""
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value.strip())
        return int(match[1]) if match else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def read_objects(
    annotations: Iterable[Any],
    index_of: Mapping[int | str, int],
    label_of: Mapping[int, int],
    source: str,
    problems: list[Problem],
) -> Objects:
    """Read the usable objects of a COCO file; what was changed or left out is added to `problems`.

    Args:
        annotations: The file's list.
        index_of: Index of every image id.
        label_of: Label of every category id.
        source: The file, for messages.
        problems: What was found so far.
    """
    objects = Objects(form="sides")
    images, labels = Ids(index_of), Ids(label_of)
    seen: set[int | str] = set()
    for number, entry in enumerate(annotations):
        if not isinstance(entry, dict):
            what = f"must be an object, is {shown(entry)}; left out"
            problems.append(_left_out(f"{source}: annotation number {number}", what, "must be an object; left out"))
            continue
        own_id = entry.get("id")
        if isinstance(own_id, int | str):
            place = f"{source}: annotation {own_id if isinstance(own_id, int) else shown(own_id)}"
            if own_id in seen:
                what = "the id is used more than once; all its objects are kept"
                problems.append(Problem(place, what, unit="annotation"))
            seen.add(own_id)
        else:
            place = f"{source}: annotation number {number}"
        _add(entry, place, images, labels, objects, problems)
    return objects


def _add(
    entry: Mapping[str, Any], place: str, images: Ids, labels: Ids, objects: Objects, problems: list[Problem]
) -> None:
    image_id, category_id = entry.get("image_id"), entry.get("category_id")
    (image, image_as_is), (label, label_as_is) = images.find(image_id), labels.find(category_id)
    if label is None:
        fault = "is none of the categories; add it to them or correct it"
        what, group = f"category_id {shown(category_id)} {fault}", f"category_id {fault}"
        problems.append(Problem(place, what, fatal=True, unit="annotation", group=group))
        return
    if image is None:
        what = f"image_id {shown(image_id)} is none of the images; left out"
        problems.append(_left_out(place, what, "image_id is none of the images; left out"))
        return
    changes: list[Problem] = []
    box = _box(entry, place, changes)
    if box is None:
        what = f"bbox must be four finite numbers, is {shown(entry.get('bbox'))}; left out"
        problems.append(_left_out(place, what, "bbox must be four finite numbers; left out"))
        return
    if not image_as_is:
        changes.append(_other_id("image_id", image_id, place))
    if not label_as_is:
        changes.append(_other_id("category_id", category_id, place))
    crowd = _flag(entry, "iscrowd", place, changes)
    # Not COCO's, but what `detdistill data split` writes, so that VOC's flag outlives the change of format.
    difficult = _flag(entry, "difficult", place, changes)
    area = _area(entry.get("area"), place, changes)
    problems += changes
    objects.add(image, label, box, place, area=area, crowd=crowd, difficult=difficult)


def _other_id(key: str, value: object, place: str) -> Problem:
    fault = "is not written as in the file's list"
    return _changed(
        place, f"{key} {shown(value)} {fault}; read as {whole_number(value)}", f"{key} {fault}; read as such"
    )


def _box(entry: Mapping[str, Any], place: str, problems: list[Problem]) -> Box | None:
    """COCO's x, y, width, height as x1 y1 x2 y2; where there is none, the extent of the polygons."""
    bbox = entry.get("bbox")
    if isinstance(bbox, list) and len(bbox) == 4 and all(map(is_number, bbox)):
        x, y, width, height = map(float, bbox)
        return x, y, x + width, y + height
    if bbox is None or bbox == []:
        box = _extent(entry.get("segmentation"))
        if box is not None:
            problems.append(_changed(place, "there is no bbox; the extent of the segmentation is used"))
        return box
    numbers = _numbers(bbox)
    if numbers is None or len(numbers) != 4:
        return None
    what = f"bbox is text, {shown(bbox)}; read as numbers"
    problems.append(_changed(place, what, "bbox is text; read as numbers"))
    x, y, width, height = numbers
    return x, y, x + width, y + height


def _numbers(value: object) -> list[float] | None:
    """The numbers of a list, each a number or text, or of a text such as `[1, 2, 3, 4]`; None if one is none."""
    if isinstance(value, str):
        value = re.split(r"[,;\s]+", value.strip().strip("[]()").strip())
    if not isinstance(value, list):
        return None
    read = [to_number(item) if isinstance(item, str) else item for item in value]
    numbers = [float(item) for item in read if is_number(item)]
    return numbers if len(numbers) == len(read) else None


def _extent(segmentation: object) -> Box | None:
    """The box around the corners of all polygons, each a list x1, y1, x2, y2 …; None for anything else."""
    if not isinstance(segmentation, list) or not segmentation:
        return None
    if not all(isinstance(part, list) and len(part) >= 6 and all(map(is_number, part)) for part in segmentation):
        return None
    across = [x for part in segmentation for x in part[::2]]
    down = [y for part in segmentation for y in part[1::2]]
    return float(min(across)), float(min(down)), float(max(across)), float(max(down))


def _flag(entry: Mapping[str, Any], key: str, place: str, problems: list[Problem]) -> bool:
    """A flag of an annotation; anything but 0, 1 and their usual texts is taken as 0."""
    value = entry.get(key)
    if value is None or value in (0, 1):
        return bool(value)
    flag = to_flag(value) if isinstance(value, str) else None
    if flag is None and is_number(value):
        flag = value > 0
    read = bool(flag)
    fault = "must be 0 or 1"
    problems.append(
        _changed(place, f"{key} {fault}, is {shown(value)}; read as {read:d}", f"{key} {fault}; read as {read:d}")
    )
    return read


def _area(area: object, place: str, problems: list[Problem]) -> float:
    """The annotation's own area in square pixels; NaN where it has none."""
    number = to_number(area) if isinstance(area, str) else area
    if is_number(number) and number >= 0:
        return float(number)
    if area is not None:
        fault = "area must be a number of square pixels"
        problems.append(_changed(place, f"{fault}, is {shown(area)}; the box's is used", f"{fault}; the box's is used"))
    return math.nan


def _left_out(place: str, what: str, group: str) -> Problem:
    return Problem(place, what, outcome="left out", unit="annotation", group=group)


def _changed(place: str, what: str, group: str | None = None) -> Problem:
    return Problem(place, what, outcome="changed", unit="annotation", group=group)
