"""Datasets that tests write: images with boxes in a folder, without annotation files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable

CLASSES = ("cat", "dog")


def image_record(
    folder: Path,
    name: str,
    boxes: Sequence[Sequence[float]] = (),
    *,
    image_id: int | str | None = None,
    labels: Sequence[int] | None = None,
    size: tuple[int, int] = (40, 60),
    crowd: Sequence[bool] | None = None,
    difficult: Sequence[bool] | None = None,
    areas: Sequence[float] | None = None,
) -> ImageRecord:
    """One image, whose file is made if it is not there, `size` being height and width."""
    path = folder / name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        seed = sum(map(ord, name))
        pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, format=None if path.suffix else "PNG")
    corners = np.array(boxes, np.float64).reshape(-1, 4)
    count = len(corners)
    return ImageRecord(
        image_id=Path(name).stem if image_id is None else image_id,
        path=path,
        file_name=name,
        width=size[1],
        height=size[0],
        boxes=corners,
        labels=np.array([0] * count if labels is None else labels, np.int64),
        areas=(corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1])
        if areas is None
        else np.array(areas, np.float64),
        crowd=np.array([False] * count if crowd is None else crowd, np.bool_),
        difficult=np.array([False] * count if difficult is None else difficult, np.bool_),
    )


def dataset_of(
    *records: ImageRecord, source: str = "source", classes: Sequence[str] = CLASSES, ids: Sequence[int] = (1, 2)
) -> DetectionDataset:
    return DetectionDataset(source, tuple(classes), tuple(ids), ImageTable.of(records))
