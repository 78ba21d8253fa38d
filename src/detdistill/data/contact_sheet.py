"""One sheet of many images with their boxes: the quickest way to see that annotations are right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from detdistill.core.annotations import DetectionDataset, ImageRecord
from detdistill.core.errors import DataError
from detdistill.core.images import read_image
from detdistill.core.texts import name_of, one_line
from detdistill.report.drawing import COLORS, class_color, draw_boxes, object_marks
from detdistill.report.image_saving import format_like
from detdistill.report.marks import Color, Font, Mark

COLUMNS, ROWS = 6, 4
CELL = 320
LARGEST_ENLARGEMENT = 4.0
MARGIN = 12
CAPTION = 20
HEADING = 34
FONT_SIZE = 13
CROWDED = 12
LONGEST_TITLE = 200
"""Characters of the heading."""
PAPER, INK, SHADE = (250, 250, 250), (30, 30, 30), (225, 225, 225)


def contact_sheet(dataset: DetectionDataset, title: str) -> Image.Image:
    """Draw up to 24 images with boxes and class names.

    The images are chosen at random, always the same for a dataset, but every class is shown if there is room, the rare
    ones first. Crowd regions and difficult objects are dashed. Images that cannot be decoded are skipped.

    Args:
        dataset: the annotated images.
        title: heading of the sheet.
    """
    # Each image is shrunk as soon as it is read, because 24 photographs at their full size can fill the memory.
    tiles = sorted(islice(_tiles(dataset, shown_first(dataset)), COLUMNS * ROWS), key=lambda tile: tile[0])
    columns, rows = min(COLUMNS, max(1, len(tiles))), max(1, -(-len(tiles) // COLUMNS))
    step_x, step_y = CELL + MARGIN, CELL + CAPTION + MARGIN
    font, title_font = ImageFont.load_default(FONT_SIZE), ImageFont.load_default(FONT_SIZE + 4)
    title, legend = one_line(title, LONGEST_TITLE), _legend(dataset, font)
    width = round(max(columns * step_x, title_font.getlength(title), sum(step for _, _, step in legend)))
    sheet = Image.new("RGB", (width + 2 * MARGIN, HEADING + rows * step_y + MARGIN + HEADING), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), title, fill=INK, font=title_font)
    for place, (index, tile) in enumerate(tiles):
        x, y = MARGIN + place % COLUMNS * step_x, HEADING + MARGIN + place // COLUMNS * step_y
        pen.rectangle((x, y, x + CELL - 1, y + CELL - 1), fill=SHADE)
        sheet.paste(tile, (x + (CELL - tile.width) // 2, y + (CELL - tile.height) // 2))
        pen.text((x, y + CELL + 3), _caption(dataset.images[index], font), fill=INK, font=font)
    x, y = MARGIN, sheet.height - HEADING
    for name, color, step in legend:
        pen.rectangle((x, y, x + FONT_SIZE, y + FONT_SIZE), fill=color, outline=INK)
        pen.text((x + FONT_SIZE + 6, y), name, fill=INK, font=font)
        x += step
    return sheet


def default_file(dataset: DetectionDataset) -> Path:
    """Name of a sheet without one: a PNG if most images are PNG or GIF files, else a JPEG, as for photographs."""
    formats = [format_like(name) for name in dataset.images.file_names]
    return Path(f"contact_sheet.{'png' if 2 * formats.count('png') > len(formats) else 'jpg'}")


def shown_first(dataset: DetectionDataset) -> list[int]:
    """All images in random order, but first, for each class from the rarest on, one image that has it."""
    lot = [int(index) for index in np.random.default_rng(0).permutation(len(dataset.images))]
    counts = np.zeros(len(dataset.classes), np.int64)
    holder: dict[int, int] = {}
    for index in lot:
        labels, occurrences = np.unique(dataset.images[index].labels, return_counts=True)
        counts[labels] += occurrences
        for label in labels.tolist():
            holder.setdefault(label, index)
    order: list[int] = []
    shown: set[int] = set()
    for label in np.argsort(counts, kind="stable").tolist():
        if label in holder and label not in shown:
            order.append(holder[label])
            shown.update(dataset.images[holder[label]].labels.tolist())
    return list(dict.fromkeys(order + lot))


def _tiles(dataset: DetectionDataset, order: Iterable[int]) -> Iterator[tuple[int, Image.Image]]:
    for index in order:
        record = dataset.images[index]
        try:
            image = read_image(record.path, (record.height, record.width))
        except DataError:
            continue
        scale = min(CELL / max(image.shape[:2]), LARGEST_ENLARGEMENT)
        yield index, draw_boxes(image, _marks(dataset, record), scale=scale)


def _has_legend(dataset: DetectionDataset) -> bool:
    return len(dataset.classes) <= len(COLORS)


def _marks(dataset: DetectionDataset, record: ImageRecord) -> list[Mark]:
    # Where many objects crowd an image, texts would hide them, and the colours say enough if there is a legend.
    with_text = len(record.labels) <= CROWDED or not _has_legend(dataset)
    return object_marks(record, dataset.classes, with_text=with_text)


def _caption(record: ImageRecord, font: Font) -> str:
    facts = f"  {record.width}x{record.height}, {len(record.labels)} object{'s' * (len(record.labels) != 1)}"
    name = name_of(PurePosixPath(record.file_name).name)
    if font.getlength(name + facts) > CELL:
        while len(name) > 1 and font.getlength(f"…{name}{facts}") > CELL:
            name = name[1:]
        name = f"…{name}"
    return name + facts


def _legend(dataset: DetectionDataset, font: Font) -> list[tuple[str, Color, int]]:
    """Each class, its colour and the room it takes; nothing if there are more classes than colours."""
    if not _has_legend(dataset):
        return []
    return [
        (name, class_color(label), FONT_SIZE + 30 + round(font.getlength(name)))
        for label, name in enumerate(map(name_of, dataset.classes))
    ]
