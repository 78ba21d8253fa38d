"""What a format cannot hold: counted, so that nothing is lost without a word."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import PurePath
from typing import Literal

import numpy as np

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable

Format = Literal["coco", "voc", "yolo"]

FORMAT_NAMES: dict[Format, str] = {"coco": "COCO", "voc": "PASCAL VOC", "yolo": "YOLO"}


def without_crowd(dataset: DetectionDataset) -> DetectionDataset:
    """Return the dataset without crowd regions, which only COCO has: as plain objects they would be trained on."""
    return replace(dataset, images=ImageTable.of(_without_crowd(record) for record in dataset.images))


def losses(datasets: Collection[DetectionDataset], to: Format) -> list[str]:
    """Return what is lost when datasets are written in a format, one warning with a count for each kind of loss."""
    name = FORMAT_NAMES[to]
    records = [record for dataset in datasets for record in dataset.images]
    difficult = sum(int(record.difficult.sum()) for record in records)
    warnings = []
    if to == "coco":
        if difficult:
            key = "PASCAL VOC's flag 'difficult' is written as a key that only detdistill reads"
            warnings.append(f"{_objects(difficult)}: {key}")
        if not all(isinstance(record.image_id, int) for record in records) and not all(map(_is_name, records)):
            warnings.append("image ids are replaced by numbers from 1: not all of them are numbers")
        return warnings
    crowd = sum(int(record.crowd.sum()) for record in records)
    if crowd:
        regions = "1 crowd region is" if crowd == 1 else f"{crowd} crowd regions are"
        warnings.append(f"{regions} left out: {name} has no flag for them")
    if to == "yolo" and difficult:
        warnings.append(f"{_objects(difficult)}: the flag 'difficult' is lost, {name} has none")
    masked = sum(int((np.diff(dataset.images.masks.starts) > 0).sum()) for dataset in datasets if dataset.images.masks)
    if masked:
        warnings.append(f"{_objects(masked)}: the mask is lost, {name} is written with boxes only")
    measured = sum(int(_has_own_area(_without_crowd(record)).sum()) for record in records)
    if measured:
        warnings.append(f"{_objects(measured)}: the annotated area is lost, {name} has only the box's")
    if any(dataset.category_ids != tuple(range(1, len(dataset.classes) + 1)) for dataset in datasets):
        warnings.append(f"category ids are lost: {name} has none; the order of the classes is kept")
    if any(isinstance(record.image_id, int) for record in records):
        warnings.append(f"image ids are lost: {name} identifies images by their names")
    return warnings


def _objects(count: int) -> str:
    return "1 object" if count == 1 else f"{count} objects"


def _is_name(record: ImageRecord) -> bool:
    """Whether the image's id is only its name, as in formats without ids."""
    return record.image_id in (PurePath(record.file_name).stem, str(PurePath(record.file_name).with_suffix("")))


def _has_own_area(record: ImageRecord) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    box_areas = (record.boxes[:, 2] - record.boxes[:, 0]) * (record.boxes[:, 3] - record.boxes[:, 1])
    return np.abs(record.areas - box_areas) > 0.01 * box_areas


def _without_crowd(record: ImageRecord) -> ImageRecord:
    return record.keep(~record.crowd) if record.crowd.any() else record
