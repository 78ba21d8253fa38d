"""Charts of a page: their numbers as positions on a drawing. The page's template draws them as SVG."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

from detdistill.core.errors import DetdistillError
from detdistill.core.texts import shortened

Point = tuple[float, float]

WIDTH, HEIGHT = 640, 300
"""Of a chart, in units of its own; the page scales it."""
SMALL_WIDTH, SMALL_HEIGHT = 340, 210
"""Of a small chart: several stand side by side, and one is as wide as a phone."""
LEFT, TOP = 52, 12
"""The first edges of what the axes enclose; long numbers move the left one."""
RIGHT_MARGIN, BOTTOM_MARGIN = 24, 46
RIGHT, BOTTOM = WIDTH - RIGHT_MARGIN, HEIGHT - BOTTOM_MARGIN
"""The last edges of a chart that is not small."""
TEXT, PHONE_TEXT = 13, 23
"""Text size in units of a chart: of all charts on a desk and of small ones anywhere, and of large ones on a phone."""
DIGIT = 0.58
"""Width of a digit on an axis, relative to the text size."""
STEPS_OF_AXIS = 5
SAME = 1e-4
"""Spread of values, relative to the largest, below which the numbers on an axis could not be told apart."""
MOST_DOTS = 30
"""Points of a line up to which each is marked by a dot."""


@dataclass(frozen=True)
class Chart:
    """Lines over one axis, on linear scales that hold all points.

    Attributes:
        x_label: what runs to the right.
        y_label: what runs upwards.
        lines: (x, y) points by name, up to four lines; points that are not finite are left out.
        caption: stands below.
        faint: lines in the same colours, drawn thin behind those of the same name: single values behind their mean.
        reference: a name and a value that the lines are seen beside.
        x_range: values that the horizontal axis holds in any case.
        y_range: values that the vertical axis holds in any case.
        counts: `x` counts steps or epochs: its axis goes from 0 to the last one and has whole numbers.
        small: one of several side by side.
    """

    kind: ClassVar[str] = "chart"
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[Point]]
    caption: str = ""
    faint: Mapping[str, Sequence[Point]] = field(default_factory=dict)
    reference: tuple[str, float] | None = None
    x_range: tuple[float, ...] = ()
    y_range: tuple[float, ...] = ()
    counts: bool = False
    small: bool = False

    def __post_init__(self) -> None:
        """Raises `DetdistillError` where there is nothing to draw, or more than colours tell apart."""
        if not any(self._lines.values()):
            raise DetdistillError(f"chart of {self.y_label}: there is no finite point to draw")
        if len(self.lines) > 4:
            raise DetdistillError(f"chart of {self.y_label}: {len(self.lines)} lines; four can be told apart")

    @cached_property
    def _lines(self) -> dict[str, list[Point]]:
        return {name: _finite(points) for name, points in self.lines.items()}

    @cached_property
    def _faint(self) -> dict[str, list[Point]]:
        return {name: _finite(points) for name, points in self.faint.items()}

    @property
    def width(self) -> int:
        """Of the drawing."""
        return SMALL_WIDTH if self.small else WIDTH

    @property
    def height(self) -> int:
        """Of the drawing."""
        return SMALL_HEIGHT if self.small else HEIGHT

    @property
    def left(self) -> float:
        """Where the horizontal axis starts."""
        text = TEXT if self.small else PHONE_TEXT
        return max(LEFT, 16 + DIGIT * text * max(len(short_number(tick)) for tick in self.ticks[1]))

    @property
    def right(self) -> int:
        """Where the horizontal axis ends."""
        return self.width - RIGHT_MARGIN

    @property
    def bottom(self) -> int:
        """Where the vertical axis starts."""
        return self.height - BOTTOM_MARGIN

    @cached_property
    def ticks(self) -> tuple[list[float], list[float]]:
        """Numbers on both axes, round ones; the axes hold them and all points."""
        drawn = [point for points in (*self._lines.values(), *self._faint.values()) for point in points]
        x, y = [*self.x_range, *(x for x, _ in drawn)], [*self.y_range, *(y for _, y in drawn)]
        y += [self.reference[1]] if self.reference is not None else []
        numbers = round_numbers(0, max(x), least_step=1) if self.counts else round_numbers(*_apart(x))
        return numbers, round_numbers(*_apart(y))

    @cached_property
    def _last(self) -> float:
        """The end of the horizontal axis."""
        last = self.ticks[0][-1]
        return (
            max(1.0, *(x for points in (*self._lines.values(), *self._faint.values()) for x, _ in points))
            if self.counts
            else last
        )

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Position and text of each number on the horizontal axis."""
        ticks, (lowest, *_) = self.ticks
        return [(self.place((tick, lowest))[0], short_number(tick)) for tick in ticks if tick <= self._last]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Position and text of each number on the vertical axis."""
        (first, *_), ticks = self.ticks
        return [(self.place((first, tick))[1], short_number(tick)) for tick in ticks]

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Name and points of each line, the points as SVG's `polyline` takes them."""
        return [(name, self._path(points)) for name, points in self._lines.items()]

    @property
    def faint_paths(self) -> list[tuple[int, str]]:
        """The number of the line that a faint one lies behind, and its points."""
        names = list(self.lines)
        return [(names.index(name), self._path(points)) for name, points in self._faint.items()]

    @property
    def dots(self) -> list[tuple[int, float, float]]:
        """Number of its line and place of each point of a line that has few of them, without which one is invisible."""
        few = [(number, points) for number, points in enumerate(self._lines.values()) if len(points) <= MOST_DOTS]
        return [(number, *self.place(point)) for number, points in few for point in points]

    @property
    def reference_y(self) -> float | None:
        """The height of the reference."""
        return None if self.reference is None else self.place((self.ticks[0][0], self.reference[1]))[1]

    @property
    def reference_name_y(self) -> float | None:
        """The height of the reference's name: above its line, or below it at the upper edge."""
        y = self.reference_y
        return None if y is None else y - 6 if y > TOP + 16 else y + 16

    def _path(self, points: Sequence[Point]) -> str:
        return " ".join("{:.1f},{:.1f}".format(*self.place(point)) for point in points)

    def place(self, point: Point) -> Point:
        """The position of a point on the drawing."""
        left, across, bottom, up = self._frame
        return left + (point[0] - self.ticks[0][0]) * across, bottom - (point[1] - self.ticks[1][0]) * up

    @cached_property
    def _frame(self) -> tuple[float, float, float, float]:
        """Where the horizontal axis starts, its units per value, and the same of the vertical axis."""
        (x_first, *_), (y_first, *_, y_last) = self.ticks
        across, up = (self.right - self.left) / (self._last - x_first), (self.bottom - TOP) / (y_last - y_first)
        return self.left, across, self.bottom, up


FIRST, LAST = 5.0, 95.0
"""Ends of the axis of a chart of dots, in percent of its width."""
ROW, NAME, AXIS, REFERENCE = 46, 16, 46, 22
"""Of a chart of dots, in pixels: a row, the baseline of the name in it, the axis, the room for the reference's name."""
LONGEST_NAME = 44
"""Characters of a name in a chart of dots: a phone shows no more."""


@dataclass(frozen=True)
class Dots:
    """Values of a few names on one axis: a dot for each value, a bar for an interval, a line for a reference.

    Positions across are percentages, so that the drawing fits any width while its text keeps its size.

    Attributes:
        x_label: what runs to the right.
        values: by name, from top to bottom.
        intervals: lower end, mean and upper end by name; a name may have none.
        reference: a name and a value that the others are seen beside.
        caption: stands below.
    """

    kind: ClassVar[str] = "dots"
    row: ClassVar[int] = ROW
    name: ClassVar[int] = NAME
    axis: ClassVar[int] = AXIS
    x_label: str
    values: Mapping[str, Sequence[float]]
    intervals: Mapping[str, tuple[float, float, float]]
    reference: tuple[str, float] | None = None
    caption: str = ""

    def __post_init__(self) -> None:
        """Raises `DetdistillError` where there is nothing to draw."""
        if not any(self.values.values()):
            raise DetdistillError(f"dots of {self.x_label}: there is no value to draw")

    @property
    def height(self) -> int:
        """Of the drawing, in pixels."""
        return self.top + ROW * len(self.values) + AXIS

    @property
    def top(self) -> int:
        """Where the first row begins, in pixels: the reference's name stands above it."""
        return 0 if self.reference is None else REFERENCE

    @property
    def rows(self) -> list[tuple[str, str, Sequence[float]]]:
        """Name, name as shown, and values of each row."""
        return [(name, shortened(name, LONGEST_NAME), values) for name, values in self.values.items()]

    @property
    def reference_side(self) -> Literal["start", "end"]:
        """The end of the reference's name that stands at its line: the name lies towards the middle."""
        return "end" if self.reference is not None and self.place(self.reference[1]) > 50 else "start"

    @cached_property
    def _ends(self) -> list[float]:
        found = [value for values in self.values.values() for value in values]
        found += [end for interval in self.intervals.values() for end in interval]
        found += [] if self.reference is None else [self.reference[1]]
        return round_numbers(min(found), max(found))

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Position and text of each number on the axis."""
        return [(self.place(tick), f"{tick:g}") for tick in self._ends]

    def place(self, value: float) -> float:
        """The position of a value across the drawing, in percent."""
        first, *_, last = self._ends
        return FIRST + (value - first) / (last - first) * (LAST - FIRST)


def round_numbers(lowest: float, highest: float, least_step: float = 0) -> list[float]:
    """Return multiples of 1, 2 or 5 times a power of ten, at even distances, from below `lowest` to above `highest`.

    Args:
        lowest: first number to hold.
        highest: last number to hold.
        least_step: smallest distance.
    """
    spread = max(highest - lowest, abs(highest) * 1e-6, 1e-12, least_step * STEPS_OF_AXIS)
    power = 10 ** math.floor(math.log10(spread / STEPS_OF_AXIS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * STEPS_OF_AXIS >= spread * (1 - 1e-9))
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    return [count * step for count in range(first, max(last, first + 1) + 1)]


def short_number(value: float) -> str:
    """A number on an axis: `0.05`, `200`, `12k`, `1.5M`."""
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e4 else f"{value:g}"


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if all(map(math.isfinite, point))]


def _apart(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest value; room around a value that is the only one."""
    lowest, highest = min(values), max(values)
    largest = max(abs(lowest), abs(highest))
    if highest - lowest > SAME * largest:
        return lowest, highest
    return (lowest - largest / 4, highest + largest / 4) if largest else (0.0, 1.0)
