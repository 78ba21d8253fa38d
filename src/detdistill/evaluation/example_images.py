"""Images of a dataset with their objects above and a detector's boxes below, as a section of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath

import numpy as np
import torch
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError
from detdistill.core.images import Size, read_image
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.structures import Detections
from detdistill.core.texts import shortened
from detdistill.evaluation.results import Results
from detdistill.report.drawing import detection_marks, draw_boxes, object_marks
from detdistill.report.html import Grid, Picture, Section, Text
from detdistill.report.image_saving import jpeg_for_page
from detdistill.report.page_layout import DESK, PHONE, drawn_text_size, grid_width

SIDE = 400
"""Pixels of the longer side of an image on the page."""
LARGEST_ENLARGEMENT = 4.0
MOST_BOXES = 30
"""Detections in an image that are drawn, the best ones."""
GAP, PAPER = 8, (128, 128, 128)
NAME = 40
"""Characters of a file name that are shown."""
TEXT = drawn_text_size(SIDE, min(grid_width(PHONE), grid_width(DESK)))


def example_section(
    dataset: DetectionDataset, results: Results, thresholds: Sequence[float], *, count: int = 6
) -> Section:
    """Return a section with the first images that have objects.

    Images that cannot be read are left out.

    Args:
        dataset: the ground truth.
        results: the detections.
        thresholds: `(C,)` score of each class from which on a detection is drawn, 0 to 1.
        count: number of images, at most.
    """
    shown = []
    for index in np.flatnonzero(dataset.images.counts)[:count].tolist():
        record = dataset.images[index]
        try:
            found = _detections(results, index, (record.height, record.width), thresholds)
            shown.append(_picture(record, dataset.classes, found))
        except DataError:
            continue
    heading = "Images"
    if not shown:
        return Section(heading, [Text("None of the first images with objects can be read.")])
    note = (
        "The first images of the dataset that have objects. Above: the annotated objects. Below: the detections, "
        f"from each class's score of the best F1 on, at most {MOST_BOXES}. Broken lines: crowd regions and difficult "
        "objects."
    )
    return Section(heading, [Text(note), Grid(shown)])


def _detections(results: Results, index: int, size: Size, thresholds: Sequence[float]) -> Detections:
    """What is shown of the detections in an image of this height and width, best first."""
    places = np.flatnonzero(results.image == index)
    places = places[results.scores[places] >= np.asarray(thresholds)[results.labels[places]]]
    places = places[np.argsort(-results.scores[places], kind="stable")][:MOST_BOXES]
    best = results.take(places)
    masks = None if best.masks is None else InstanceMasks.of_rles(best.masks, size)
    columns = (torch.from_numpy(column) for column in (best.boxes, best.scores, best.labels))
    return Detections(*columns, masks=masks)


def _picture(record: ImageRecord, classes: Sequence[str], found: Detections) -> Picture:
    pixels = read_image(record.path, (record.height, record.width))
    scale = min(SIDE / max(pixels.shape[:2]), LARGEST_ENLARGEMENT)
    drawings = [
        draw_boxes(pixels, marks, scale=scale, font_size=TEXT)
        for marks in (object_marks(record, classes), detection_marks(found, classes))
    ]
    width, height = drawings[0].size
    both = Image.new("RGB", (width, 2 * height + GAP), PAPER)
    for number, drawing in enumerate(drawings):
        both.paste(drawing, (0, number * (height + GAP)))
    name = shortened(PurePosixPath(record.file_name).name, NAME)
    return Picture(jpeg_for_page(both), f"Objects and detections in {name}.", name, media="jpeg")
