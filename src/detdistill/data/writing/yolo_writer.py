"""YOLO: a text file of boxes per image, and a YAML file that names the classes and the parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from numpy.typing import NDArray

from detdistill.core.annotations import ImageRecord
from detdistill.core.errors import DataError, Problem
from detdistill.core.images import exif_orientation, image_size
from detdistill.core.progress import track
from detdistill.data.assembly import is_text
from detdistill.data.writing.image_files import ImageFiles
from detdistill.data.writing.naming import Part

_SIDEWAYS = (5, 6, 7, 8)
_HEADER = "# Without 'path', the folders are relative to this file, so this folder can be moved.\n"


def write_yolo(folder: Path, parts: Sequence[Part], images: ImageFiles) -> None:
    """Write `images/PART/`, `labels/PART/` and `data.yaml`.

    Every image has a label file, which is empty without objects. The YAML has no `path`: Ultralytics then takes the
    folder of the file, whereas it looks for `path: .` in the working directory or in its own datasets folder.

    Args:
        folder: an empty folder.
        parts: the parts, with the same classes; without crowd regions.
        images: how image files are placed.

    Raises:
        DetdistillError: there is no class, an image is not of its annotated size or cannot be placed.
    """
    dataset = parts[0].dataset
    if not dataset.classes or not all(map(is_text, dataset.classes)):
        raise DataError(f"{dataset.source}: YOLO needs at least one class, and names that are valid text")
    problems: list[Problem] = []
    for part in parts:
        for kind in ("images", "labels"):
            (folder / kind / part.name).mkdir(parents=True)
        entries = list(zip(part.files, part.dataset.images, strict=True))
        for file, record in track(entries, f"writing {part.name}"):
            labels = folder / "labels" / part.name / file.with_suffix(".txt")
            try:
                text = _lines(record)
            except DataError as error:
                problems.append(Problem(f"{part.dataset.source}: image {record.image_id!r}", str(error), fatal=True))
                continue
            labels.parent.mkdir(parents=True, exist_ok=True)
            labels.write_text(text, encoding="utf-8")
            images.place(record.path, folder / "images" / part.name / file)
    if problems:
        count = "1 image" if len(problems) == 1 else f"{len(problems)} images"
        raise DataError(f"{dataset.source}: {count} cannot be written as YOLO", problems)
    config = {
        **{part.name: str(PurePosixPath("images", part.name)) for part in parts},
        "nc": len(dataset.classes),
        "names": dict(enumerate(dataset.classes)),
    }
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True, width=10**9)
    (folder / "data.yaml").write_text(_HEADER + text, encoding="utf-8")


def _lines(record: ImageRecord) -> str:
    """One line per object: class index, centre x, centre y, width and height as fractions of the upright size."""
    (height, width), boxes = _upright(record)
    sides = np.array([width, height], np.float64)
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2 / sides
    extents = (boxes[:, 2:] - boxes[:, :2]) / sides
    rows = np.concatenate((centers, extents), axis=1).tolist()
    return "".join(
        f"{label} {' '.join(f'{number:.10f}'.rstrip('0').rstrip('.') for number in row)}\n"
        for label, row in zip(record.labels.tolist(), rows, strict=True)
    )


def _upright(record: ImageRecord) -> tuple[tuple[int, int], NDArray[np.float64]]:
    """Height and width with the EXIF orientation applied, which readers of YOLO assume, and the boxes in it.

    Raises:
        DataError: the image cannot be read, or is not of the size that its annotations were made for.
    """
    size = image_size(record.path)
    if (record.height, record.width) == size:
        return size, record.boxes
    orientation = exif_orientation(record.path)
    if (record.width, record.height) != size or orientation not in _SIDEWAYS:
        raise DataError(
            f"{record.path}: the image has {size[1]}x{size[0]} pixels and its annotations are for "
            f"{record.width}x{record.height}; use the images that were annotated, or correct width and height"
        )
    x1, y1, x2, y2 = record.boxes.T
    # From the right and the lower edge of the stored pixels.
    left, top, right, bottom = record.width - x2, record.height - y2, record.width - x1, record.height - y1
    match orientation:
        case 5:
            columns = y1, x1, y2, x2
        case 6:
            columns = top, x1, bottom, x2
        case 7:
            columns = top, left, bottom, right
        case _:
            columns = y1, left, y2, right
    return size, np.stack(columns, axis=1)
