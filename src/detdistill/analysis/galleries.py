"""The galleries: objects that are ranked differently, and images in which features and predictions differ."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from torch import Tensor

from detdistill.analysis.observation import ImageCase, ObjectCase
from detdistill.core.annotations import DetectionDataset
from detdistill.core.images import read_image
from detdistill.core.texts import name_of
from detdistill.report.drawing import draw_boxes
from detdistill.report.html import Panels, Picture
from detdistill.report.image_saving import jpeg_for_page
from detdistill.report.marks import Box, Color, Mark

TRUTH: Color = (255, 255, 255)
TEACHER: Color = (86, 180, 233)
STUDENT: Color = (230, 159, 0)
PAPER, SOFT = (255, 255, 255), (90, 101, 112)
OBJECT_SIDE, BARS, GAP = 400, 140, 10
"""Pixels of the longer side of an object's surroundings, of the height of the bars below, and between the two."""
IMAGE_SIDE, MAP_SIDE = 520, 300
"""Pixels of the longer side of an image and of a map."""
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


def object_gallery(dataset: DetectionDataset, cases: Sequence[ObjectCase]) -> list[Picture]:
    """Return a picture for each object: its surroundings with three boxes, and below them both lists of scores.

    All texts stand in the captions, where they keep the size of the page's text.
    """
    return [_object_picture(dataset, case) for case in cases]


def _object_picture(dataset: DetectionDataset, case: ObjectCase) -> Picture:
    surroundings = _surroundings(dataset, case)
    sheet = Image.new("RGB", (OBJECT_SIDE, surroundings.height + GAP + BARS), PAPER)
    sheet.paste(surroundings, ((OBJECT_SIDE - surroundings.width) // 2, 0))
    _draw_scores(ImageDraw.Draw(sheet), case, surroundings.height + GAP)
    name = name_of(dataset.classes[case.label])
    return Picture(
        jpeg_for_page(sheet),
        f"An object of class {name}, the boxes that teacher and student rank first, and their scores as bars.",
        f"Class {name}: RM loss {case.divergence:.2f}, tau {case.tau:+.2f}. IoU of the first-ranked box: teacher "
        f"{case.other_iou:.2f}, student {case.own_iou:.2f}. Highest score: {_highest_score(case):.2f}.",
        media="jpeg",
    )


def _surroundings(dataset: DetectionDataset, case: ObjectCase) -> Image.Image:
    record = dataset.images[case.image]
    pixels = read_image(record.path, (record.height, record.width))
    x1, y1, x2, y2 = case.box.tolist()
    half = max(CONTEXT * max(x2 - x1, y2 - y1), LEAST_CONTEXT)
    center = (x1 + x2) / 2, (y1 + y2) / 2
    left, top = (int(max(0, place - half)) for place in center)
    right, bottom = int(min(record.width, center[0] + half)), int(min(record.height, center[1] + half))
    part = pixels[top:bottom, left:right]
    scale = OBJECT_SIDE / max(part.shape[:2])
    marks = [
        Mark(_moved(case.box, left, top), "", TRUTH, dashed=True),
        Mark(_moved(case.other_box, left, top), "", TEACHER),
        Mark(_moved(case.own_box, left, top), "", STUDENT),
    ]
    return draw_boxes(np.ascontiguousarray(part), marks, scale=scale)


def _moved(box: Tensor, left: int, top: int) -> Box:
    x1, y1, x2, y2 = box.tolist()
    return x1 - left, y1 - top, x2 - left, y2 - top


def _highest_score(case: ObjectCase) -> float:
    return max(float(case.own.max()), float(case.other.max()), 1e-6)


def _draw_scores(pen: ImageDraw.ImageDraw, case: ObjectCase, top: int) -> None:
    """Pairs of bars, the teacher's best candidate first; all heights are relative to the highest score of either."""
    room = OBJECT_SIDE / len(case.own)
    bar = min(14.0, room / 2 - 1)
    floor = top + BARS - 2
    for place, pair in enumerate(zip(case.other.tolist(), case.own.tolist(), strict=True)):
        for side, (score, color) in enumerate(zip(pair, (TEACHER, STUDENT), strict=True)):
            x = place * room + side * bar
            height = (floor - top) * score / _highest_score(case)
            pen.rectangle((x, floor - height, x + bar - 1, floor), fill=color, outline=SOFT)
    pen.line((0, floor, OBJECT_SIDE, floor), fill=SOFT)


def image_gallery(dataset: DetectionDataset, cases: Sequence[ImageCase]) -> tuple[list[Panels], tuple[float, float]]:
    """Return panels for each image, and the value of F and of P that is drawn brightest.

    Panels are the image, then F and P of each level, with the objects' boxes on all of them. All F share one scale, all
    P another; higher values are drawn like the brightest.
    """
    brightest = _highest(cases, "features"), _highest(cases, "predictions")
    return [_image_panels(dataset, case, brightest) for case in cases], brightest


def _image_panels(dataset: DetectionDataset, case: ImageCase, brightest: tuple[float, float]) -> Panels:
    record = dataset.images[case.image]
    pixels = read_image(record.path, (record.height, record.width))
    name = name_of(PurePosixPath(record.file_name).name)
    boxes = [cast(Box, tuple(box.tolist())) for box in record.boxes]
    longer = max(record.height, record.width)
    image = draw_boxes(pixels, [Mark(box, "", TRUTH) for box in boxes], scale=IMAGE_SIDE / longer)
    pictures = [Picture(jpeg_for_page(image), f"Image {name} with its objects.", "image with objects", media="jpeg")]
    scale = MAP_SIDE / longer
    size = max(1, round(scale * record.width)), max(1, round(scale * record.height))
    marks = [Mark(cast(Box, tuple(scale * side for side in box)), "", TRUTH) for box in boxes]
    for stride, *pair in zip(case.strides, case.features, case.predictions, strict=True):
        for kind, values, limit in zip(("F", "P"), pair, brightest, strict=True):
            heat = _heat(_image_part(values, case.size, stride), limit, size)
            title = f"{kind}, stride {stride:g}"
            pictures.append(Picture(_png(draw_boxes(heat, marks)), f"Map of {title}, of image {name}.", title))
    return Panels(name, pictures, large_first=True)


def _highest(cases: Sequence[ImageCase], kind: str) -> float:
    """The 99th percentile of all cells: a few extreme ones would leave the rest dark."""
    values = torch.cat([level.flatten() for case in cases for level in getattr(case, kind)])
    return max(float(np.quantile(values.float().numpy(), 0.99)), 1e-12)


def _image_part(values: Tensor, size: tuple[int, int], stride: float) -> NDArray[np.float32]:
    """The cells that are image, not padding."""
    height, width = (max(1, round(length / stride)) for length in size)
    return values[:height, :width].float().numpy()


def _heat(values: NDArray[np.float32], limit: float, size: tuple[int, int]) -> NDArray[np.uint8]:
    """A map in colours, enlarged to `size` (width, height) so that it lies on the image cell by cell."""
    colors = Image.fromarray(_colors(np.clip(values / limit, 0, 1)))
    return np.asarray(colors.resize(size, Image.Resampling.NEAREST))


def _colors(shares: NDArray[np.float32]) -> NDArray[np.uint8]:
    """`(…, 3)` colours of values 0 to 1."""
    places = np.linspace(0, 1, len(SCALE))
    return np.stack([np.interp(shares, places, SCALE[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)


def _png(sheet: Image.Image) -> bytes:
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()
