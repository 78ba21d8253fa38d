"""The galleries: objects that are ranked differently, and images in which features and predictions differ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from detdistill.analysis.observation import ImageCase, ObjectCase
from detdistill.core.annotations import DetectionDataset
from detdistill.core.images import read_image
from detdistill.report.drawing import draw_boxes
from detdistill.report.marks import Box, Color, Mark

TRUTH: Color = (255, 255, 255)
TEACHER: Color = (86, 180, 233)
STUDENT: Color = (230, 159, 0)
PAPER, INK, SOFT = (255, 255, 255), (29, 35, 41), (90, 101, 112)
CELL, GAP, HEADING, BARS = 260, 14, 26, 150
CONTEXT = 1.5
"""Sides of the picture around an object, relative to the object's longer side, on each side of it."""
LEAST_CONTEXT = 40
"""Pixels."""

# Cividis (Nuñez, Anderton and Renslow, PLOS ONE 2018) at nine even places: readable without colour, too.
SCALE = np.array(
    [
        (0, 34, 78),
        (18, 53, 112),
        (59, 73, 108),
        (87, 93, 109),
        (112, 113, 115),
        (138, 134, 120),
        (165, 156, 116),
        (195, 179, 105),
        (254, 232, 56),
    ]
)


def object_gallery(dataset: DetectionDataset, cases: Sequence[ObjectCase]) -> bytes:
    """A PNG with a column for each object: the surroundings with three boxes, and below both lists of scores."""
    font = ImageFont.load_default(13)
    width = GAP + len(cases) * (CELL + GAP)
    sheet = Image.new("RGB", (width, HEADING + CELL + BARS + 3 * GAP), PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, case in enumerate(cases):
        left = GAP + number * (CELL + GAP)
        name = dataset.classes[case.label]
        pen.text(
            (left, GAP // 2), f"{name[:16]}: RM loss {case.divergence:.2f}, tau {case.tau:+.2f}", fill=INK, font=font
        )
        sheet.paste(_surroundings(dataset, case), (left, HEADING))
        _draw_scores(pen, case, left, HEADING + CELL + GAP, font)
    return _png(sheet)


def _surroundings(dataset: DetectionDataset, case: ObjectCase) -> Image.Image:
    record = dataset.images[case.image]
    pixels = read_image(record.path, (record.height, record.width))
    x1, y1, x2, y2 = case.box.tolist()
    half = max(CONTEXT * max(x2 - x1, y2 - y1), LEAST_CONTEXT)
    center = (x1 + x2) / 2, (y1 + y2) / 2
    left, top = (int(max(0, place - half)) for place in center)
    right, bottom = int(min(record.width, center[0] + half)), int(min(record.height, center[1] + half))
    part = pixels[top:bottom, left:right]
    scale = CELL / max(part.shape[:2])
    marks = [
        Mark(_moved(case.box, left, top), "", TRUTH, dashed=True),
        Mark(_moved(case.other_box, left, top), "", TEACHER),
        Mark(_moved(case.own_box, left, top), "", STUDENT),
    ]
    return draw_boxes(np.ascontiguousarray(part), marks, scale=scale)


def _moved(box: Tensor, left: int, top: int) -> Box:
    x1, y1, x2, y2 = box.tolist()
    return x1 - left, y1 - top, x2 - left, y2 - top


def _draw_scores(
    pen: ImageDraw.ImageDraw, case: ObjectCase, left: int, top: int, font: ImageFont.ImageFont | ImageFont.FreeTypeFont
) -> None:
    """Pairs of bars, the teacher's best candidate first; all heights are of the largest score of either."""
    highest = max(float(case.own.max()), float(case.other.max()), 1e-6)
    room = CELL / len(case.own)
    bar = min(10.0, room / 2 - 1)
    floor = top + BARS - 34
    for place, pair in enumerate(zip(case.other.tolist(), case.own.tolist(), strict=True)):
        for side, (score, color) in enumerate(zip(pair, (TEACHER, STUDENT), strict=True)):
            x = left + place * room + side * bar
            height = (floor - top) * score / highest
            pen.rectangle((x, floor - height, x + bar - 1, floor), fill=color, outline=SOFT)
    pen.line((left, floor, left + CELL, floor), fill=SOFT)
    pen.text((left, floor + 4), f"highest {highest:.2f}; boxes' IoU", fill=SOFT, font=font)
    text = f"teacher {case.other_iou:.2f}, student {case.own_iou:.2f}"
    pen.text((left, floor + 19), text, fill=SOFT, font=font)


def image_gallery(dataset: DetectionDataset, cases: Sequence[ImageCase]) -> bytes:
    """A PNG with a row for each image: the image, then F and P of each level; one scale for all F, one for all P."""
    font = ImageFont.load_default(13)
    strides = cases[0].strides
    side = CELL // 2 + 20
    columns = 1 + 2 * len(strides)
    highest_picture = max(min(1.0, record.height / record.width) for record in (dataset.images[c.image] for c in cases))
    step = round(side * highest_picture) + GAP
    sheet = Image.new("RGB", (GAP + columns * (side + GAP), 2 * HEADING + len(cases) * step + HEADING), PAPER)
    pen = ImageDraw.Draw(sheet)
    highest = [_highest(cases, kind) for kind in ("features", "predictions")]
    titles = ["image", *(f"{kind}, stride {stride}" for stride in strides for kind in ("F", "P"))]
    for column, title in enumerate(titles):
        pen.text((GAP + column * (side + GAP), GAP // 2), title, fill=INK, font=font)
    for row, case in enumerate(cases):
        top = HEADING + row * step
        record = dataset.images[case.image]
        pixels = read_image(record.path, (record.height, record.width))
        marks = [Mark(cast(Box, tuple(box.tolist())), "", TRUTH) for box in record.boxes]
        scale = side / max(pixels.shape[:2])
        sheet.paste(draw_boxes(pixels, marks, scale=scale), (GAP, top))
        for level, stride in enumerate(strides):
            pair = case.features[level], case.predictions[level]
            for kind, (values, limit) in enumerate(zip(pair, highest, strict=True)):
                column = 1 + 2 * level + kind
                picture = _heat(_image_part(values, case.size, stride), limit, side)
                sheet.paste(picture, (GAP + column * (side + GAP), top))
    _draw_scale(pen, sheet, GAP, sheet.height - HEADING, highest, font)
    return _png(sheet)


def _highest(cases: Sequence[ImageCase], kind: str) -> float:
    """The 99th percentile of all cells: a few extreme ones would leave the rest dark."""
    values = torch.cat([level.flatten() for case in cases for level in getattr(case, kind)])
    return max(float(np.quantile(values.float().numpy(), 0.99)), 1e-12)


def _image_part(values: Tensor, size: tuple[int, int], stride: int) -> NDArray[np.float32]:
    """The cells that are image, not padding."""
    height, width = (max(1, round(length / stride)) for length in size)
    return values[:height, :width].float().numpy()


def _heat(values: NDArray[np.float32], limit: float, side: int) -> Image.Image:
    colors = _colors(np.clip(values / limit, 0, 1))
    height, width = values.shape
    scale = side / max(height, width)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    return Image.fromarray(colors).resize(size, Image.Resampling.NEAREST)


def _colors(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`(…, 3)` colours of values 0 to 1."""
    places = np.linspace(0, 1, len(SCALE))
    return np.stack([np.interp(shares, places, SCALE[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)


def _draw_scale(
    pen: ImageDraw.ImageDraw,
    sheet: Image.Image,
    left: int,
    top: int,
    highest: Sequence[float],
    font: ImageFont.ImageFont | ImageFont.FreeTypeFont,
) -> None:
    ramp = _colors(np.linspace(0, 1, CELL // 2, dtype=np.float32)[None].repeat(14, axis=0))
    pen.text((left, top), "0", fill=INK, font=font)
    sheet.paste(Image.fromarray(ramp), (left + 14, top + 1))
    text = f"F {highest[0]:.3g}, P {highest[1]:.3g} and more"
    pen.text((left + 22 + CELL // 2, top), text, fill=INK, font=font)


def _png(sheet: Image.Image) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
