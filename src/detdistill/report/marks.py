"""What to draw on an image, and the plan of the drawing: which boxes, in which order, and where their tags stand."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ImageFont

from detdistill.core.boxes import pairwise_iou
from detdistill.core.rle import Bitmap, Window
from detdistill.core.texts import one_line
from detdistill.report.tag_layout import Rect, TagLayout, group_by_place

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

LEAST_FONT_SIZE = 12
FONT_SHARE = 1 / 56
"""Font size relative to the drawing's longer side: one of 4000 pixels can still be read at a width of 1000."""
LEAST_LINE_WIDTH = 2
LINE_SHARE = 1 / 350
"""Line width relative to the drawing's longer side."""
THICKEST_LINE = 1 / 10
"""Line width relative to a box's shorter side, at most: thick lines would hide small objects."""
WIDEST_TAG = 0.5
"""Width of a tag relative to the drawing's width, at most; longer texts are shortened."""
ROOMY = 3
"""Height of a box, in heights of its tag, from which on the tag may have several lines."""
LONGEST_TEXT = 200
"""Characters that are looked at; no text of that length fits into a tag."""


@dataclass(frozen=True)
class Mark:
    """One box to draw.

    Attributes:
        box: x1 y1 x2 y2 in pixels of the image; a box that is not finite is not drawn.
        text: one line for the box's tag, where there is room; may be empty.
        color: of the box and behind the text.
        dashed: broken lines, for a box that is no ordinary object.
        score: of a detection, 0 to 1, shown behind the text; None for any other box, such as ground truth.
        mask: `(h, w)` uint8, 0 or 1, the part of the object's mask inside a window, and the window: x1 y1 x2 y2 in
            whole pixels of the image; None if it has none.
    """

    box: Box
    text: str
    color: Color
    dashed: bool = False
    score: float | None = None
    mask: tuple[Bitmap, Window] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Tag:
    """The tag of one box, or of several detections on one another.

    Attributes:
        rect: where it stands, in pixels of the drawing.
        box: the box that it is attached to, in pixels of the drawing.
        color: of the box and behind the text.
        lines: name and score, best first.
        rest: number of detections at this place that the lines do not name.
    """

    rect: Rect
    box: Rect
    color: Color
    lines: tuple[str, ...]
    rest: int


@dataclass(frozen=True)
class Plan:
    """A drawing: first all outlines, then all tags.

    Attributes:
        outlines: marks and their boxes in pixels of the drawing, the best last.
        tags: the best first; none overlaps another.
    """

    outlines: tuple[tuple[Mark, Rect], ...]
    tags: tuple[Tag, ...]


@dataclass(frozen=True)
class Style:
    """Sizes in pixels that depend on the drawing's.

    Attributes:
        font: of the tags.
        row: height of a tag's line.
        baseline: of the text, below the upper edge of its line.
        padding: beside the text.
        line: width of the outlines, at most.
        border: width of the black line around outlines and tags.
        widest: width of a tag, at most.
    """

    font: Font
    row: int
    baseline: int
    padding: int
    line: int
    border: int
    widest: int

    @staticmethod
    def of(canvas: tuple[int, int], font_size: int | None = None) -> Style:
        """Choose the sizes for a drawing.

        Args:
            canvas: width and height of the drawing in pixels.
            font_size: in pixels; None for one that is proportional to the longer side.
        """
        size = font_size or max(LEAST_FONT_SIZE, round(FONT_SHARE * max(canvas)))
        line = max(LEAST_LINE_WIDTH, round(LINE_SHARE * max(canvas)))
        return Style(
            font=ImageFont.load_default(size),
            row=round(1.35 * size),
            baseline=round(0.98 * size),
            padding=max(2, round(0.25 * size)),
            line=line,
            border=max(1, round(line / 3)),
            widest=round(WIDEST_TAG * canvas[0]),
        )

    def line_of(self, box: Rect) -> int:
        """Width of a box's outline."""
        shorter = min(box[2] - box[0], box[3] - box[1])
        return max(1, min(self.line, round(THICKEST_LINE * shorter)))

    def width(self, text: str) -> int:
        """Width of a tag with this text."""
        return math.ceil(self.font.getlength(text)) + 2 * self.padding


def plan_drawing(marks: Sequence[Mark], scale: float, canvas: tuple[int, int], style: Style, per_place: int) -> Plan:
    """Choose the boxes to draw, their order, and the places of their tags.

    Args:
        marks: in pixels of the image.
        scale: from the image to the drawing.
        canvas: width and height of the drawing in pixels.
        style: of the drawing.
        per_place: detections that a tag names, at most; at least 1.
    """
    ranked = sorted((mark for mark in marks if all(map(math.isfinite, mark.box))), key=_rank)
    groups = group_by_place(_overlaps(ranked), [mark.score is not None for mark in ranked])
    places = [[ranked[index] for index in group] for group in groups]
    best = [place[0] for place in places]
    boxes = [_scaled(mark.box, scale, canvas) for mark in best]
    numbers: dict[Color, int] = {}
    layout = TagLayout(
        canvas=canvas,
        boxes=np.array(boxes, np.int64).reshape(-1, 4),
        colors=np.array([numbers.setdefault(mark.color, len(numbers)) for mark in best], np.int64),
        iou=_overlaps(best),
        reach=style.row // 4,
        gap=style.border,
    )
    tags: dict[int, Tag] = {}
    # A second line comes only after the first lines of all others.
    for count in range(1, per_place + 1):
        for index, (place, box) in enumerate(zip(places, boxes, strict=True)):
            before = tags.get(index)
            if len(place) < count or (count > 1 and before is None):
                continue
            lines = _lines(place, count, style)
            size = max(map(style.width, lines)), count * style.row
            if not any(lines) or (count > 1 and not _is_roomy(box, size)):
                continue
            rect = layout.place(index, size, instead_of=before.rect if before else None)
            if rect is not None:
                tags[index] = Tag(rect, box, place[0].color, lines, len(place) - count)
    return Plan(tuple(reversed(list(zip(best, boxes, strict=True)))), tuple(tags[index] for index in sorted(tags)))


def _overlaps(marks: Sequence[Mark]) -> NDArray[np.float64]:
    """`(N, N)` intersection over union."""
    corners = torch.tensor([mark.box for mark in marks], dtype=torch.float64).reshape(-1, 4)
    return np.asarray(pairwise_iou(corners, corners).numpy())


def _is_roomy(box: Rect, size: tuple[int, int]) -> bool:
    """Whether a box is so large that a tag of several lines stays small beside it."""
    return box[2] - box[0] >= size[0] and box[3] - box[1] >= ROOMY * size[1]


def _lines(place: Sequence[Mark], count: int, style: Style) -> tuple[str, ...]:
    """The first `count` lines of a tag; the last one counts the detections that follow."""
    rest = len(place) - count
    suffixes = [""] * (count - 1) + [f"+{rest}" if rest else ""]
    return tuple(_text(mark, suffix, style) for mark, suffix in zip(place, suffixes, strict=False))


def _text(mark: Mark, suffix: str, style: Style) -> str:
    """Name, score and what follows; the name is shortened if the line is too long."""
    name = one_line(" ".join(mark.text[:LONGEST_TEXT].split()), LONGEST_TEXT)
    facts = ([] if mark.score is None else [f"{mark.score:.2f}"]) + [suffix] * bool(suffix)
    whole = " ".join([name] * bool(name) + facts)
    if len(mark.text) <= LONGEST_TEXT and style.width(whole) <= style.widest:
        return whole
    shortened = [" ".join([f"{name[:length].rstrip()}…", *facts]) for length in range(len(name) + 1)]
    return shortened[max(0, bisect_right(shortened, style.widest, key=style.width) - 1)]


def _rank(mark: Mark) -> tuple[bool, float, float]:
    """Sorts the best first: marks without a score, by area from small to large, then detections by score."""
    x1, y1, x2, y2 = mark.box
    return mark.score is not None, -(mark.score or 0.0), (x2 - x1) * (y2 - y1)


def _scaled(box: Box, scale: float, canvas: tuple[int, int]) -> Rect:
    """Whole pixels, at least one; far outside the canvas it does not matter where a box ends."""
    x1, x2 = (round(min(max(side * scale, -canvas[0]), 2 * canvas[0])) for side in box[0::2])
    y1, y2 = (round(min(max(side * scale, -canvas[1]), 2 * canvas[1])) for side in box[1::2])
    return x1, y1, max(x1 + 1, x2), max(y1 + 1, y2)
