"""The annotations of a COCO file: ids, boxes, areas and flags, also where they are written as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import Problem
from detdistill.core.packed_texts import PackedTexts
from detdistill.data.assembly import are_numbers, is_number, shown, to_flag, to_number
from detdistill.data.coco_file import AnnotationRow, Block, CocoFile
from detdistill.data.coco_ids import Ids, as_numbers, whole_number
from detdistill.data.objects import Box, ObjectList, Objects
from detdistill.data.segmentations import read_segmentation


class ObjectReader:
    """Reads the usable objects of a COCO file.

    Args:
        index_of: Index of every image id.
        label_of: Label of every category id.
        source: The file, for messages.
        problems: What was changed or left out is added.
        sizes: `(n, 2)` height and width of every image, to read masks at; None leaves masks out.

    Attributes:
        used: The category ids that annotations have.
    """

    def __init__(
        self,
        index_of: Mapping[int | str, int],
        label_of: Mapping[int, int],
        source: str,
        problems: list[Problem],
        sizes: NDArray[np.int64] | None = None,
    ) -> None:
        self._sizes = sizes
        self.used: set[int | str] = set()
        self._images, self._labels = Ids(index_of), Ids(label_of)
        self._source = source
        self._problems = problems

    def read(self, file: CocoFile) -> Objects:
        """Return the objects of all annotations, in their order."""
        parts: list[Objects] = []
        ids: list[NDArray[np.int64] | list[int | str]] = []
        for block in file.annotations():
            objects = self._columns(block)
            entries = block.entries
            if objects is None:
                entries = entries or [msgspec.structs.asdict(row) | {"bbox": [*row.bbox]} for row in block.rows]
                objects = self._one_by_one(entries, block.start)
                own = [entry.get("id") for entry in entries if isinstance(entry, dict)]
            else:
                own = [row.id for row in block.rows]
            parts.append(objects)
            numbers = as_numbers(own)
            ids.append([own_id for own_id in own if isinstance(own_id, int | str)] if numbers is None else numbers)
        for repeated in _repeated(ids):
            place = f"{self._source}: annotation {_shown_id(repeated)}"
            what = "the id is used more than once; all its objects are kept"
            self._problems.append(Problem(place, what, unit="annotation"))
        objects = Objects.joined(parts, f"{self._source}: annotation ", "sides")
        return objects if parts or self._sizes is None else replace(objects, masks=PackedTexts.of([]))

    def _columns(self, block: Block[AnnotationRow]) -> Objects | None:
        """Return the objects of a block of annotations in which nothing is unusual, else None."""
        rows = block.rows
        images = self._images.find_all([row.image_id for row in rows])
        categories = [row.category_id for row in rows]
        labels = self._labels.find_all(categories)
        crowd, difficult = [row.iscrowd for row in rows], [row.difficult for row in rows]
        sides = np.fromiter(chain.from_iterable(row.bbox for row in rows), np.float64, 4 * len(rows)).reshape(-1, 4)
        areas = np.array([row.area for row in rows], dtype=np.float64)  # None becomes NaN
        usual = are_numbers(sides) and are_numbers(areas[~np.isnan(areas)]) and not (areas < 0).any()
        if not rows or images is None or labels is None or not usual or not {*crowd, *difficult} <= {None, 0, 1}:
            return None
        self.used.update(categories)
        ids = [row.id for row in rows]
        numbers = as_numbers(ids)
        texts = (_entry(own_id, number) for number, own_id in enumerate(ids, block.start))
        return Objects(
            images=images,
            labels=labels.astype(np.int32),
            boxes=np.concatenate([sides[:, :2], sides[:, :2] + sides[:, 2:]], axis=1),
            areas=areas,
            crowd=np.array(list(map(bool, crowd))),
            difficult=np.array(list(map(bool, difficult))),
            places=PackedTexts.of(texts) if numbers is None else numbers,
            masks=None if self._sizes is None else PackedTexts.of(self._masks(block, images.tolist())),
        )

    def _masks(self, block: Block[AnnotationRow], images: Sequence[int]) -> Iterator[str]:
        """The masks of annotations in images of these indices."""
        for number, (row, image) in enumerate(zip(block.rows, images, strict=True), block.start):
            yield self._mask(getattr(row, "segmentation", None), image, _entry(row.id, number))

    def _mask(self, segmentation: object, image: int, name: str) -> str:
        if self._sizes is None:
            return ""
        height, width = self._sizes[image].tolist()
        read = read_segmentation(segmentation, (height, width))
        for fault in read.faults:
            what, group = f"segmentation: {fault.what}; {fault.done}", f"segmentation: {fault.group}; {fault.done}"
            self._problems.append(_changed(f"{self._source}: annotation {name}", what, group))
        return read.rle

    def _one_by_one(self, entries: Sequence[Any], start: int) -> Objects:
        """Read entries, of which the first is number `start`, whatever they are."""
        objects = ObjectList(masks=self._sizes is not None)
        for number, entry in enumerate(entries, start):
            if not isinstance(entry, dict):
                place = f"{self._source}: annotation {_entry(None, number)}"
                what = f"must be an object, is {shown(entry)}; left out"
                self._problems.append(_left_out(place, what, "must be an object; left out"))
                continue
            if type(entry.get("category_id")) in (int, str):
                self.used.add(entry["category_id"])
            self._add(entry, _entry(entry.get("id"), number), objects)
        return objects.columns()

    def _add(self, entry: Mapping[str, Any], name: str, objects: ObjectList) -> None:
        place, problems = f"{self._source}: annotation {name}", self._problems
        image_id, category_id = entry.get("image_id"), entry.get("category_id")
        (image, image_as_is), (label, label_as_is) = self._images.find(image_id), self._labels.find(category_id)
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
        mask = self._mask(entry.get("segmentation"), image, name)
        objects.add(image, label, box, name, area=area, crowd=crowd, difficult=difficult, mask=mask)


def _entry(own_id: object, number: int) -> str:
    return _shown_id(own_id) if isinstance(own_id, int | str) else f"number {number}"


def _shown_id(own_id: int | str) -> str:
    return str(own_id) if isinstance(own_id, int) else shown(own_id)


def _repeated(blocks: Sequence[NDArray[np.int64] | list[int | str]]) -> list[int | str]:
    """Return each id that was there before, as often as it is repeated."""
    arrays = [block for block in blocks if isinstance(block, np.ndarray)]
    if len(arrays) == len(blocks):
        joined = np.concatenate([np.zeros(0, np.int64), *arrays])
        _, first = np.unique(joined, return_index=True)
        return np.delete(joined, first).tolist()
    seen: set[int | str] = set()
    repeated = []
    for own_id in chain.from_iterable(block.tolist() if isinstance(block, np.ndarray) else block for block in blocks):
        if own_id in seen:
            repeated.append(own_id)
        seen.add(own_id)
    return repeated


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
