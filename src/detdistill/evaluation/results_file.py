"""COCO-results files: a JSON list of image, class, box and score."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.json_files import JsonListFile
from detdistill.data.results_entries import (
    Unknown,
    images_of,
    known_classes,
    known_images,
    labels_of,
    read_entries,
)
from detdistill.evaluation.results import Results


def read_results(path: Path, dataset: DetectionDataset) -> Results:
    """Read a COCO-results file.

    Args:
        path: JSON, a list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`, in pixels. Where an
            entry has a `file_name` that is one of the dataset's images, by its path or as the annotations name it, this
            decides instead of `image_id`; a `category_name` decides instead of `category_id`. Other keys are ignored.
        dataset: what ids and names refer to.

    Raises:
        DataError: the file is not of this form, or an id is not one of `dataset`; every problem is listed.
    """
    entries = read_entries(path)
    images, unknown_images = images_of(entries, dataset)
    labels, unknown_classes = labels_of(entries, dataset)
    problems = _problems("image", unknown_images, known_images(dataset))
    problems += _problems("class", unknown_classes, known_classes(dataset))
    if problems:
        raise DataError(
            f"{path} names images or classes that {dataset.source} does not have: score it with the annotations that "
            "the detections were made for. Entries counted from 0:",
            problems,
        )
    return Results(
        images,
        np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], dtype=float),
        labels,
    )


def write_results(path: Path, results: Results, dataset: DetectionDataset) -> None:
    """Writes a COCO-results file, whole or not at all.

    Images go by their id; where the data set's format has no ids (VOC, YOLO) that is the file's stem, and `file_name`
    stands beside it.

    Raises:
        DetdistillError: the file cannot be written.
    """
    columns = (results.image, results.xywh, results.scores, results.labels)
    with JsonListFile(path) as file:
        for image, box, score, label in zip(*(column.tolist() for column in columns), strict=True):
            record = dataset.images[image]
            entry: dict[str, Any] = {"image_id": record.image_id}
            if isinstance(record.image_id, str):
                entry["file_name"] = record.file_name
            file.add(entry | {"category_id": dataset.category_ids[label], "bbox": box, "score": score})


def _problems(kind: str, unknown: Unknown, known: str) -> list[Problem]:
    return [
        Problem(
            f"entry {numbers[0]}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""),
            f"{kind} {what!r} is not among the {known}",
            fatal=True,
        )
        for what, numbers in unknown.items()
    ]


def ids_of_files(files: Sequence[Path]) -> list[str]:
    """Return an id for each image file: its stem, or where two are the same, as much of the path as tells all apart.

    Args:
        files: different files.
    """
    longest = max((len(file.parts) for file in files), default=0)
    for ids in (
        [file.stem for file in files],
        *(["/".join(file.parts[-count:]) for file in files] for count in range(1, longest)),
    ):
        if len(set(ids)) == len(ids):
            return ids
    return [str(file) for file in files]
