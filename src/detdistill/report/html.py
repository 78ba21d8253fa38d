"""Pages that people read: one HTML file with everything in it, light or dark as the reader's system, phone or desk."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically

Point = tuple[float, float]

WIDTH, HEIGHT = 640, 300
"""Of a chart, in units of its own; the page scales it."""
LEFT, RIGHT, TOP, BOTTOM = 52, WIDTH - 24, 12, HEIGHT - 46
"""The edges of what the axes enclose."""
STEPS_OF_AXIS = 5


@dataclass(frozen=True)
class Text:
    """A paragraph.

    Attributes:
        text: plain; nothing in it is read as HTML.
    """

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Code:
    """Commands or a file, as they are typed.

    Attributes:
        text: with its line breaks.
    """

    kind: ClassVar[str] = "code"
    text: str


@dataclass(frozen=True)
class Table:
    """Rows of texts; the first column is aligned to the left, the others to the right.

    Attributes:
        columns: the headings.
        rows: one text per column.
        caption: stands below.
    """

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A picture, which becomes part of the page.

    Attributes:
        png: the file's content.
        description: for those who cannot see it.
        caption: stands below.
    """

    kind: ClassVar[str] = "picture"
    png: bytes
    description: str
    caption: str = ""

    @property
    def source(self) -> str:
        """As a `data:` address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"


@dataclass(frozen=True)
class Chart:
    """Lines over one axis, on linear scales that hold all points.

    Attributes:
        x_label: what runs to the right.
        y_label: what runs upwards.
        lines: (x, y) points by name, up to four lines; points that are not finite are left out.
        caption: stands below.
    """

    kind: ClassVar[str] = "chart"
    width: ClassVar[int] = WIDTH
    height: ClassVar[int] = HEIGHT
    left: ClassVar[int] = LEFT
    right: ClassVar[int] = RIGHT
    x_label: str
    y_label: str
    lines: Mapping[str, Sequence[Point]]
    caption: str = ""

    def __post_init__(self) -> None:
        """Raises `DetdistillError` where there is nothing to draw, or more than colours tell apart."""
        if not any(self._finite(points) for points in self.lines.values()):
            raise DetdistillError(f"chart of {self.y_label}: there is no finite point to draw")
        if len(self.lines) > 4:
            raise DetdistillError(f"chart of {self.y_label}: {len(self.lines)} lines; four can be told apart")

    @staticmethod
    def _finite(points: Sequence[Point]) -> list[Point]:
        return [point for point in points if all(map(math.isfinite, point))]

    @property
    def ticks(self) -> tuple[list[float], list[float]]:
        """Round numbers on both axes; the first and last are the axis's ends."""
        x, y = zip(*(point for points in self.lines.values() for point in self._finite(points)), strict=True)
        return round_numbers(min(x), max(x)), round_numbers(min(y), max(y))

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Position and text of each number on the horizontal axis."""
        ticks = self.ticks[0]
        return [(self._place((tick, self.ticks[1][0]))[0], f"{tick:g}") for tick in ticks]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Position and text of each number on the vertical axis."""
        ticks = self.ticks[1]
        return [(self._place((self.ticks[0][0], tick))[1], f"{tick:g}") for tick in ticks]

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Name and points of each line, the points as SVG's `polyline` takes them."""
        return [
            (name, " ".join("{:.1f},{:.1f}".format(*self._place(point)) for point in self._finite(points)))
            for name, points in self.lines.items()
        ]

    def _place(self, point: Point) -> Point:
        (x_first, *_, x_last), (y_first, *_, y_last) = self.ticks
        across = (point[0] - x_first) / (x_last - x_first)
        up = (point[1] - y_first) / (y_last - y_first)
        return LEFT + across * (RIGHT - LEFT), BOTTOM - up * (BOTTOM - TOP)


def round_numbers(lowest: float, highest: float) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten, at even distances, from below `lowest` to above `highest`."""
    spread = max(highest - lowest, abs(highest) * 1e-6, 1e-12)
    power = 10 ** math.floor(math.log10(spread / STEPS_OF_AXIS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * STEPS_OF_AXIS >= spread * (1 - 1e-9))
    first, last = math.floor(lowest / step + 1e-9), math.ceil(highest / step - 1e-9)
    return [count * step for count in range(first, max(last, first + 1) + 1)]


ROW, NAMES, AXIS = 30, 190, 46
"""Of a chart of dots: the height of a row, the width of the names, the height of the axis."""


@dataclass(frozen=True)
class Dots:
    """Values of a few names on one axis: a dot for each value, a bar for an interval, a line for a reference.

    Attributes:
        x_label: what runs to the right.
        values: by name, from top to bottom.
        intervals: lower end, mean and upper end by name; a name may have none.
        reference: a name and a value that the others are seen beside.
        caption: stands below.
    """

    kind: ClassVar[str] = "dots"
    width: ClassVar[int] = WIDTH
    left: ClassVar[int] = NAMES
    right: ClassVar[int] = RIGHT
    row: ClassVar[int] = ROW
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
        """Of the drawing."""
        return self.top + ROW * len(self.values) + AXIS

    @property
    def top(self) -> int:
        """Where the first row begins: the reference's name stands above it."""
        return 0 if self.reference is None else ROW // 2

    @property
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
        """The position of a value."""
        first, *_, last = self._ends
        return NAMES + (value - first) / (last - first) * (RIGHT - NAMES)


Part = Text | Code | Table | Picture | Chart | Dots


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        heading: plain text.
        parts: from top to bottom.
    """

    heading: str
    parts: Sequence[Part]


def write_report(file: Path, *, title: str, summary: Sequence[str], sections: Sequence[Section]) -> None:
    """Writes a page that needs no other file and no network.

    Args:
        file: to write, `.html`.
        title: of the page.
        summary: what the reader should know if they read nothing else, a finding each; several become a list.
        sections: from top to bottom.

    Raises:
        DetdistillError: the file cannot be written.
    """
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(title=title, summary=summary, sections=sections)
    write_atomically(file, page)
