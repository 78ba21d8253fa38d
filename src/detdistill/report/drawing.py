"""Boxes, masks and tags on images, in colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detdistill.core.annotations import ImageRecord
from detdistill.core.rle import Bitmap, Window, cropped
from detdistill.core.structures import Detections
from detdistill.report.marks import Color, Mark, Style, Tag, plan_drawing
from detdistill.report.tag_layout import Rect

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
DASH = 2.5
"""Length of a dash and of the gap behind it, in widths of the line."""
READABLE = 640
"""Pixels of the longer side: smaller images are enlarged by a whole number, or tags would hide them."""
MASK_OPACITY = 115
"""Of a mask's colour, 0 to 255."""
PER_PLACE = 2
"""Detections on one another that a tag names, at most."""


def class_color(label: int) -> Color:
    """The colour of a class; from the ninth class on the colours come round again."""
    return COLORS[label % len(COLORS)]


def text_color(background: Color) -> Color:
    """Black or white, whichever is easier to read on `background` (brightness by ITU-R BT.601)."""
    red, green, blue = background
    return BLACK if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else WHITE


def draw_boxes(
    image: NDArray[np.uint8],
    marks: Sequence[Mark],
    *,
    scale: float = 1,
    font_size: int | None = None,
    per_place: int = PER_PLACE,
) -> Image.Image:
    """Draw boxes with their masks and tags on an enlarged or shrunk copy of an image.

    Boxes with higher scores lie over those with lower ones, and marks without a score over all detections, small ones
    over large ones. Of detections on one another (IoU with the best 0.7 or more) only the best is drawn. Its tag also
    names the next, if the box is large enough, and counts the others: `ace 0.71 +2`. Where there is no room for a tag,
    it is left out, that of the lowest score first. Masks are half transparent, below all boxes.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        marks: what to draw.
        scale: factor on the image's size.
        font_size: in pixels; None for a size proportional to the drawing's, at least 12.
        per_place: detections on one another that a tag names, at most; at least 1.

    Returns:
        An RGB image of about `H * scale` by `W * scale` pixels.
    """
    height, width = (max(1, round(side * scale)) for side in image.shape[:2])
    canvas = Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS)
    style = Style.of((width, height), font_size)
    plan = plan_drawing(marks, scale, (width, height), style, per_place)
    for mark, _ in plan.outlines:
        _draw_mask(canvas, mark, scale)
    pen = ImageDraw.Draw(canvas)
    for mark, box in plan.outlines:
        _draw_outline(pen, box, mark, style)
    for tag in plan.tags:
        _draw_tag(canvas, pen, tag, style)
    return canvas


def draw_detections(image: NDArray[np.uint8], found: Detections, classes: Sequence[str]) -> Image.Image:
    """Draw detections with names, scores and masks on a copy of an image; small images are enlarged.

    Args:
        image: `(H, W, 3)` uint8 RGB.
        found: in pixels of the image.
        classes: names of the labels.

    Returns:
        An RGB image, a whole number of times the image's size.
    """
    scale = max(1, round(READABLE / max(image.shape[:2])))
    return draw_boxes(image, detection_marks(found, classes), scale=scale)


def detection_marks(found: Detections, classes: Sequence[str]) -> list[Mark]:
    """Return a mark with name, score and mask for each detection, in the colour of its class."""
    return [
        Mark((x1, y1, x2, y2), classes[label], class_color(label), score=score, mask=mask)
        for (x1, y1, x2, y2), score, label, mask in zip(
            found.boxes.tolist(), found.scores.tolist(), found.labels.tolist(), _masks_of(found), strict=True
        )
    ]


def object_marks(record: ImageRecord, classes: Sequence[str], *, with_text: bool = True) -> list[Mark]:
    """Return a mark for each object of an image; crowd regions and difficult objects are dashed."""
    size = record.height, record.width
    texts = [""] * len(record.labels) if record.masks is None else record.masks
    return [
        Mark(
            box=(x1, y1, x2, y2),
            text=classes[label] + " (crowd)" * crowd + " (difficult)" * difficult if with_text else "",
            color=class_color(label),
            dashed=crowd or difficult,
            mask=cropped(rle, size) if rle else None,
        )
        for (x1, y1, x2, y2), label, crowd, difficult, rle in zip(
            record.boxes.tolist(),
            record.labels.tolist(),
            record.crowd.tolist(),
            record.difficult.tolist(),
            texts,
            strict=True,
        )
    ]


def _masks_of(found: Detections) -> list[tuple[Bitmap, Window] | None]:
    """The mask of each detection with its window; None where there is none."""
    if found.masks is None:
        return [None] * len(found)
    crops = (crop.cpu().numpy() for crop in found.masks.crops())
    return [
        (crop, (x1, y1, x2, y2)) if crop.size else None
        for crop, (x1, y1, x2, y2) in zip(crops, found.masks.windows.tolist(), strict=True)
    ]


def _draw_mask(canvas: Image.Image, mark: Mark, scale: float) -> None:
    """A layer of the mark's colour over the pixels of its mask, with a line along the inside of its border."""
    if mark.mask is None:
        return
    crop, window = mark.mask
    x1, y1, x2, y2 = (round(side * scale) for side in window)
    if x2 > x1 and y2 > y1:
        shown = np.asarray(Image.fromarray(crop).resize((x2 - x1, y2 - y1), Image.Resampling.NEAREST)) != 0
        around = np.pad(shown, 1)
        inner = around[:-2, 1:-1] & around[2:, 1:-1] & around[1:-1, :-2] & around[1:-1, 2:]
        opacity = np.where(inner, np.uint8(MASK_OPACITY), np.uint8(255)) * shown
        canvas.paste(mark.color, (x1, y1, x2, y2), Image.fromarray(opacity))


def _draw_outline(pen: ImageDraw.ImageDraw, box: Rect, mark: Mark, style: Style) -> None:
    """A line along the inside of the box; a thin black one around it shows it on an image of the same colour."""
    x1, y1, x2, y2 = box[0], box[1], box[2] - 1, box[3] - 1
    width, border = style.line_of(box), style.border
    pen.rectangle((x1 - border, y1 - border, x2 + border, y2 + border), outline=BLACK, width=border)
    pen.rectangle((x1, y1, x2, y2), outline=mark.color, width=width)
    if mark.dashed:
        dash = max(3, round(DASH * width))
        for start in range(x1 + dash, x2 - dash + 1, 2 * dash):
            for y in (y1, y2 + 1 - width):
                pen.rectangle((start, y, start + dash - 1, y + width - 1), fill=BLACK)
        for start in range(y1 + dash, y2 - dash + 1, 2 * dash):
            for x in (x1, x2 + 1 - width):
                pen.rectangle((x, start, x + width - 1, start + dash - 1), fill=BLACK)


def _draw_tag(canvas: Image.Image, pen: ImageDraw.ImageDraw, tag: Tag, style: Style) -> None:
    x1, y1, x2, y2 = tag.rect
    border = style.border
    pen.rectangle((x1 - border, y1 - border, x2 - 1 + border, y2 - 1 + border), fill=BLACK)
    left, top, right, _ = tag.box
    if y2 == top:  # The border must not part the tag from its box.
        line = max(border, style.line_of(tag.box))
        ends = max(x1 - border, left), min(x2 + border, right) - 1
        pen.rectangle((ends[0], top, ends[1], top + line - 1), fill=tag.color)
    for number, text in enumerate(tag.lines):
        # An image of its own, because some letters are larger than their line.
        strip = Image.new("RGB", (x2 - x1, style.row), tag.color)
        ImageDraw.Draw(strip).text(
            (style.padding, style.baseline), text, fill=text_color(tag.color), font=style.font, anchor="ls"
        )
        canvas.paste(strip, (x1, y1 + number * style.row))
