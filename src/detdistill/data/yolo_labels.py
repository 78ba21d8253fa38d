"""The lines of YOLO label files: boxes, polygons, key points, and predictions with a confidence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from detdistill.core.errors import Problem
from detdistill.core.images import Size
from detdistill.data.assembly import shown, to_number
from detdistill.data.objects import Box, ObjectList, Objects
from detdistill.data.segmentations import read_segmentation

Extra = Literal["", "confidence", "track number", "confidence and track number", "key points"]
"""What follows the box in a line and is not read."""

_LARGEST_FRACTION = 2.0  # a box that starts inside its image and ends beyond this is not written in fractions
_ROUNDING = 0.02  # fraction of the image by which a key point may lie outside its box
_EXPECTED = "a line is a class index and x y width height or a polygon's corners, as fractions of the image's size"


class _Read(NamedTuple):
    """An object as a line has it, in fractions of the image's size.

    Attributes:
        box: x1 y1 x2 y2.
        extra: What follows it.
        polygon: The corners x1 y1 x2 y2 … of the mask; empty without one.
    """

    box: Box
    extra: Extra = ""
    polygon: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class LabelLine:
    """One line of a label file.

    Attributes:
        image: Index of its image.
        file: The label file.
        number: Of the line, from 1.
        text: The line.
        label: Its first column.
        numbers: The columns after the class index; None if one of them is not a finite number.
        has_commas: Whether commas separate its columns or stand for decimal points.
    """

    image: int
    file: str
    number: int
    text: str
    label: str
    numbers: tuple[float, ...] | None
    has_commas: bool

    @property
    def place(self) -> str:
        """File and line number, for messages."""
        return f"{self.file}:{self.number}"


def label_lines(text: str, file: str, image: int) -> Iterator[LabelLine]:
    """Yield the lines of a label file that are not empty."""
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            words, has_commas = _columns(line)
            numbers = [to_number(word) for word in words[1:]]
            usable = tuple(value for value in numbers if value is not None)
            complete = usable if len(usable) == len(numbers) else None
            yield LabelLine(image, file, number, line.strip(), words[0], complete, has_commas)


def read_lines(
    lines: Sequence[LabelLine],
    sizes: Sequence[Size],
    num_classes: int,
    kpt_shape: object,
    source: str,
    problems: list[Problem],
    *,
    masks: bool = False,
) -> Objects:
    """Read the objects of a split; what was changed or left out is added to `problems`.

    Args:
        lines: All lines of all label files.
        sizes: Height and width in pixels of every image.
        num_classes: Number of classes in the YAML file.
        kpt_shape: The YAML file's entry of that name: number of key points and of values for each, 2 or 3.
        source: The YAML file and the split, for messages.
        problems: What was found so far.
        masks: Read polygons as masks, too.
    """
    objects = ObjectList(masks=masks)
    unit_fault = _wrong_unit(lines, sizes)
    if unit_fault is not None:
        problems.append(Problem(source, unit_fault, fatal=True))
        return objects.columns("fractions")
    pose = _pose_columns(lines, kpt_shape)
    is_tracking = any(_is_tracked(line.numbers) for line in lines)
    for line in lines:
        label = to_number(line.label)
        read = None if line.numbers is None else _fractions(line.numbers, pose, is_tracking=is_tracking)
        if label is None or read is None:
            what = f"{_EXPECTED}; {shown(line.text)} is left out"
            group = f"{_EXPECTED}; left out"
            problems.append(Problem(line.place, what, outcome="left out", unit="annotation", group=group))
            continue
        if label not in range(num_classes):
            fault = f"is none of the {num_classes} in 'names' (0 to {num_classes - 1}); add it to them or correct it"
            what, group = f"the class {line.label} {fault}", f"the class {fault}"
            problems.append(Problem(line.place, what, fatal=True, unit="annotation", group=group))
            continue
        box, extra, polygon = read
        if max(map(abs, box)) > _LARGEST_FRACTION:
            fault = f"the numbers must be fractions of the image's size, 0 to 1; {shown(line.text)} is left out"
            group = "the numbers must be fractions of the image's size, 0 to 1; left out"
            problems.append(Problem(line.place, fault, outcome="left out", unit="annotation", group=group))
            continue
        problems += _changes(line, extra)
        height, width = sizes[line.image]
        x1, y1, x2, y2 = box
        corners = x1 * width, y1 * height, x2 * width, y2 * height
        mask = _mask(polygon, (height, width), line.place, problems) if masks else ""
        objects.add(line.image, int(label), corners, line.place, mask=mask)
    return objects.columns("fractions")


def _mask(polygon: Sequence[float], size: Size, place: str, problems: list[Problem]) -> str:
    """The mask of a polygon in fractions of an image of this height and width."""
    if not polygon:
        return ""
    height, width = size
    corners = [value * (height if number % 2 else width) for number, value in enumerate(polygon)]
    read = read_segmentation([corners], size)
    for fault in read.faults:
        what, group = f"polygon: {fault.what}; {fault.done}", f"polygon: {fault.group}; {fault.done}"
        problems.append(Problem(place, what, outcome="changed", unit="annotation", group=group))
    return read.rle


def _changes(line: LabelLine, extra: Extra) -> list[Problem]:
    changes = []
    if extra:
        changes.append(f"{extra} after the box; only the box is read")
    if line.has_commas:
        changes.append("commas in place of spaces or decimal points; read as these")
    return [Problem(line.place, what, outcome="changed", unit="annotation") for what in changes]


def _columns(line: str) -> tuple[tuple[str, ...], bool]:
    """The columns of a line, and whether it has commas; 0,5 is a number if the columns are separated without it."""
    words = re.split(r"[\s;]+", line.strip().strip(";"))
    if "," not in line and ";" not in line:
        return tuple(words), False
    if len(words) >= 5 and not any(word.endswith(",") for word in words):
        return tuple(word.replace(",", ".") for word in words), True
    return tuple(re.split(r"[\s,;]+", line.strip().strip(",;"))), True


def _fractions(numbers: tuple[float, ...], pose: frozenset[int], *, is_tracking: bool) -> _Read | None:
    """What a line says of its object; None if the numbers are too few or too many."""
    count = len(numbers)
    if count == 4:
        return _Read(_around(numbers))
    if count in pose or (count - 1 in pose and _is_share(numbers[-1])):
        return _Read(_around(numbers), "key points")
    if count == 5 and _is_share(numbers[4]):
        return _Read(_around(numbers), "confidence")
    if count == 5 and numbers[4] > 1 and numbers[4] % 1 == 0:
        return _Read(_around(numbers), "track number")
    if count == 6 and is_tracking:
        return _Read(_around(numbers), "confidence and track number")
    if count >= 7 and count % 2 == 1 and _is_share(numbers[-1]):
        return _Read(_extent(numbers[:-1]), "confidence", numbers[:-1])
    if count >= 6 and count % 2 == 0:
        return _Read(_extent(numbers), "", numbers)
    return None


def _around(numbers: Sequence[float]) -> Box:
    x, y, width, height = numbers[:4]
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2


def _extent(numbers: Sequence[float]) -> Box:
    across, down = numbers[::2], numbers[1::2]
    return min(across), min(down), max(across), max(down)


def _is_share(number: float) -> bool:
    return 0 <= number <= 1


def _is_tracked(numbers: tuple[float, ...] | None) -> bool:
    """Whether a line is a box, a confidence and the number of a track, which no corner of a polygon can be."""
    return (
        numbers is not None and len(numbers) == 6 and _is_share(numbers[4]) and numbers[5] > 1 and numbers[5] % 1 == 0
    )


def _wrong_unit(lines: Sequence[LabelLine], sizes: Sequence[Size]) -> str | None:
    """Why the first four numbers of most lines cannot be fractions."""
    starts = [line.numbers[:4] for line in lines if line.numbers is not None and len(line.numbers) >= 4]
    largest = [max(map(abs, start)) for start in starts]
    beyond = [value for value in largest if value > _LARGEST_FRACTION]
    if not starts or len(beyond) <= len(starts) / 2:
        return None
    short_side = min(min(size) for size in sizes)
    unit = "pixels or percent" if max(beyond) <= 100 < short_side else "pixels"
    return (
        f"the numbers of {len(beyond):,} of {len(starts):,} lines reach up to {max(beyond):g}, so they seem to be in "
        f"{unit}; expected fractions of the image's size, 0 to 1. Divide x and width by the image's width, and y and "
        "height by its height (percent by 100)"
    )


def _pose_columns(lines: Sequence[LabelLine], kpt_shape: object) -> frozenset[int]:
    """The numbers of columns after the class index with which a line is a box followed by key points.

    `kpt_shape` gives it. Without it, lines are key points if all lines longer than a box are as long and have the
    structure: a box in the image that holds all visible points, and 0, 1 or 2 as every third number if there are three
    for each point.
    """
    if isinstance(kpt_shape, list) and len(kpt_shape) == 2:
        points, values = (to_number(str(value)) for value in kpt_shape)
        if points is not None and values in (2, 3):
            return frozenset({int(4 + points * values)})
    long_lines = [line.numbers for line in lines if line.numbers is not None and len(line.numbers) > 5]
    counts = {len(numbers) for numbers in long_lines}
    if len(counts) != 1:
        return frozenset()
    (count,) = counts
    for values in (3, 2):
        fits = count > 4 + values - 1 and (count - 4) % values == 0
        if fits and all(_is_pose(numbers, values) for numbers in long_lines):
            return frozenset({count})
    return frozenset()


def _is_pose(numbers: Sequence[float], values: int) -> bool:
    x1, y1, x2, y2 = _around(numbers)
    if min(x1, y1) < -_ROUNDING or max(x2, y2) > 1 + _ROUNDING or _is_parallelogram(numbers):
        return False
    points = [numbers[start : start + values] for start in range(4, len(numbers), values)]
    if values == 3 and any(point[2] not in (0, 1, 2) for point in points):
        return False
    visible = [point for point in points if any(point[:2]) and (values == 2 or point[2] > 0)]
    return all(x1 - _ROUNDING <= x <= x2 + _ROUNDING and y1 - _ROUNDING <= y <= y2 + _ROUNDING for x, y, *_ in visible)


def _is_parallelogram(numbers: Sequence[float]) -> bool:
    """Whether eight numbers are the corners of a rotated box, whose diagonals cut each other in half."""
    if len(numbers) != 8:
        return False
    x1, y1, x2, y2, x3, y3, x4, y4 = numbers
    return max(abs(x1 + x3 - x2 - x4), abs(y1 + y3 - y2 - y4)) < _ROUNDING
