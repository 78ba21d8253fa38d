"""Ground truth for the tests of evaluation, made without files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable


def record(
    image_id: int | str,
    boxes: list[list[float]],
    labels: list[int],
    *,
    areas: list[float] | None = None,
    crowd: list[int] | None = None,
    difficult: list[int] | None = None,
) -> ImageRecord:
    """One image; boxes are x1 y1 x2 y2."""
    corners = np.array(boxes, dtype=float).reshape(-1, 4)
    box_areas = np.prod(corners[:, 2:] - corners[:, :2], axis=1)
    none = np.zeros(len(corners), dtype=bool)
    return ImageRecord(
        image_id,
        Path(f"{image_id}.jpg"),
        f"{image_id}.jpg",
        640,
        480,
        corners,
        np.array(labels, dtype=np.int64),
        box_areas if areas is None else np.array(areas, dtype=float),
        none if crowd is None else np.array(crowd, dtype=bool),
        none if difficult is None else np.array(difficult, dtype=bool),
    )


def dataset(classes: list[str], images: list[ImageRecord]) -> DetectionDataset:
    """A data set whose category ids are 1, 2, 3 …"""
    return DetectionDataset("val.json", tuple(classes), tuple(range(1, len(classes) + 1)), ImageTable.of(images))


def no_objects(images: int, classes: int) -> DetectionDataset:
    """Empty images."""
    return dataset([f"class {label}" for label in range(classes)], [record(n, [], []) for n in range(images)])


def dataset_from_coco(truth: dict[str, Any]) -> DetectionDataset:
    """A COCO annotation dictionary as it is, without the repairs of a reader."""
    label_of = {category["id"]: label for label, category in enumerate(truth["categories"])}
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in truth["images"]}
    for annotation in truth["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    images = [
        record(
            image_id,
            [[x, y, x + width, y + height] for x, y, width, height in (entry["bbox"] for entry in found)],
            [label_of[entry["category_id"]] for entry in found],
            areas=[entry["area"] for entry in found],
            crowd=[entry["iscrowd"] for entry in found],
        )
        for image_id, found in objects.items()
    ]
    names = tuple(category["name"] for category in truth["categories"])
    return DetectionDataset("val.json", names, tuple(label_of), ImageTable.of(images))
