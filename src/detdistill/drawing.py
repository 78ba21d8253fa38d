"""Boxes on pictures, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from detdistill.structures import Detections

Color = tuple[int, int, int]
Box = tuple[float, float, float, float]

COLORS: tuple[Color, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
    (0, 114, 178),
    (255, 255, 255),
)
"""Okabe and Ito's palette (Color Universal Design, 2008), with white in the place of its black."""

BLACK, WHITE = (0, 0, 0), (255, 255, 255)
LINE_WIDTH = 2
DASH = 5
PADDING = 3
READABLE = 640
"""Pixels of the longer side: smaller pictures are enlarged by a whole number, or names would hide them."""


@dataclass(frozen=True)
class Mark:
    """One box to draw.

    Attributes:
        box: x1 y1 x2 y2 in pixels of the image.
        text: one line that stands beside the box, where there is room; may be empty.
        color: of the box and behind the text.
        dashed: broken lines, for a box that is no ordinary object.
    """

    box: Box
    text: str
    color: Color
    dashed: bool = False


def class_color(label: int) -> Color:
    """The colour of a class; from the ninth class on the colours come round again."""
    return COLORS[label % len(COLORS)]


def text_color(background: Color) -> Color:
    """Black or white, whichever is easier to read on `background` (brightness by ITU-R BT.601)."""
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else WHITE


def draw_boxes(
    image: NDArray[np.uint8], marks: Sequence[Mark], *, scale: float = 1, font_size: int = 12
) -> Image.Image:
    """Draws boxes and their texts on an enlarged or shrunk copy of an image.

    Small boxes lie over large ones. A text stands above its box, else below, else inside; where other texts or smaller
    boxes leave no room it is left out.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        marks: what to draw.
        scale: factor on the image's size; lines and texts keep theirs.
        font_size: in pixels.

    Returns:
        A picture of about `H * scale` by `W * scale` pixels.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    canvas = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    pen = ImageDraw.Draw(canvas)
    font = ImageFont.load_default(font_size)
    placed = [(mark, _scaled(mark.box, scale)) for mark in marks]
    placed.sort(key=lambda pair: _area(pair[1]), reverse=True)
    for mark, box in placed:
        _draw_outline(pen, box, mark)
    taken: list[Box] = []
    for mark, box in reversed(placed):
        text = " ".join(mark.text.split())
        if text:
            _, _, text_width, text_height = pen.textbbox((0, 0), text, font, anchor="lt")
            size = text_width + 2 * PADDING, text_height + 2 * PADDING
            place = next((p for p in _places(box, size, canvas.size) if not any(_overlap(p, t) for t in taken)), None)
            if place is not None:
                taken.append(place)
                pen.rectangle(place, fill=mark.color)
                corner = place[0] + PADDING, place[1] + PADDING
                pen.text(corner, text, fill=text_color(mark.color), font=font, anchor="lt")
        taken.append(box)
    return canvas


def draw_detections(image: NDArray[np.uint8], found: Detections, classes: Sequence[str]) -> Image.Image:
    """Draws what was found, with names and scores, on a copy of an image that is enlarged where names would hide it.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        found: in pixels of the image.
        classes: names of the labels.
    """
    marks = [
        Mark((x1, y1, x2, y2), f"{classes[label]} {score:.2f}", class_color(label))
        for (x1, y1, x2, y2), score, label in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), strict=True
        )
    ]
    return draw_boxes(image, marks, scale=max(1, round(READABLE / max(image.shape[:2]))))


def _scaled(box: Box, scale: float) -> Box:
    x1, y1, x2, y2 = (round(side * scale) for side in box)
    return x1, y1, max(x1, x2 - 1), max(y1, y2 - 1)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _places(box: Box, size: tuple[float, float], canvas: tuple[int, int]) -> list[Box]:
    """Where a text of `size` (width, height) may stand, best first: above, below, inside; all within the canvas."""
    x1, y1, _, y2 = box
    left = min(x1, canvas[0] - size[0])
    tops = y1 - size[1] - 1, y2 + 1, y1 + LINE_WIDTH
    return [
        (left, top, left + size[0], top + size[1])
        for top in tops
        if left >= 0 and top >= 0 and top + size[1] <= canvas[1]
    ]


def _draw_outline(pen: ImageDraw.ImageDraw, box: Box, mark: Mark) -> None:
    """The line's colour may be that of the picture: a thin black line around it keeps it visible."""
    x1, y1, x2, y2 = box
    pen.rectangle((x1 - 1, y1 - 1, x2 + 1, y2 + 1), outline=BLACK)
    pen.rectangle(box, outline=mark.color, width=LINE_WIDTH)
    if mark.dashed:
        for start in range(round(x1) + DASH, round(x2) - DASH + 1, 2 * DASH):
            for y in (y1, y2 + 1 - LINE_WIDTH):
                pen.rectangle((start, y, start + DASH - 1, y + LINE_WIDTH - 1), fill=BLACK)
        for start in range(round(y1) + DASH, round(y2) - DASH + 1, 2 * DASH):
            for x in (x1, x2 + 1 - LINE_WIDTH):
                pen.rectangle((x, start, x + LINE_WIDTH - 1, start + DASH - 1), fill=BLACK)
