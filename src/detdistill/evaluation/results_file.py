"""COCO-results files: a JSON list of image, class, box and score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.json_files import JsonListFile
from detdistill.core.packed_texts import PackedTexts
from detdistill.data.results_entries import (
    Unknown,
    have_masks,
    images_of,
    known_classes,
    known_images,
    labels_of,
    read_entries,
)
from detdistill.data.segmentations import read_segmentation
from detdistill.evaluation.results import Results


def read_results(path: Path, dataset: DetectionDataset) -> Results:
    """Read a COCO-results file.

    Args:
        path: JSON, a list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`, in pixels. Where an
            entry has a `file_name` that is one of the dataset's images, by its path or as the annotations name it, this
            decides instead of `image_id`; a `category_name` decides instead of `category_id`. A `segmentation`, RLE or
            polygons, is the detection's mask. Other keys are ignored.
        dataset: what ids and names refer to.

    Raises:
        DataError: the file is not of this form, an id is not one of `dataset`, or a mask cannot be read or has another
            size than its image; every problem is listed.
    """
    return results_of_entries(path, read_entries(path), dataset)


def results_of_entries(path: Path, entries: Sequence[Mapping[str, Any]], dataset: DetectionDataset) -> Results:
    """Return the detections of a file's entries; arguments and errors as of `read_results`."""
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
        _masks(path, entries, dataset, images) if have_masks(entries) else None,
    )


def _masks(
    path: Path, entries: Sequence[Mapping[str, Any]], dataset: DetectionDataset, images: NDArray[np.int64]
) -> PackedTexts:
    """The masks of entries that are of these images; a detection may have none, or one without a pixel."""
    texts: list[str] = []
    problems: list[Problem] = []
    for number, (entry, (height, width)) in enumerate(zip(entries, dataset.images.sizes[images].tolist(), strict=True)):
        read = read_segmentation(entry.get("segmentation"), (height, width), may_be_empty=True)
        texts.append(read.rle)
        problems += [
            Problem(f"entry {number}", f"segmentation: {fault.what}", fatal=True, group=f"segmentation: {fault.group}")
            for fault in read.faults
        ]
    if problems:
        raise DataError(f"{path} has masks that cannot be read. Entries counted from 0:", problems)
    return PackedTexts.of(texts)


def write_results(path: Path, results: Results, dataset: DetectionDataset) -> None:
    """Writes a COCO-results file, whole or not at all.

    Images go by their id; where the data set's format has no ids (VOC, YOLO) that is the file's stem, and `file_name`
    stands beside it. Masks are written as RLE, `segmentation`.

    Raises:
        DetdistillError: the file cannot be written.
    """
    columns = (results.image, results.xywh, results.scores, results.labels)
    masks = repeat("") if results.masks is None else results.masks
    with JsonListFile(path) as file:
        # Masks may be without end.
        for image, box, score, label, mask in zip(*(column.tolist() for column in columns), masks, strict=False):
            record = dataset.images[image]
            entry: dict[str, Any] = {"image_id": record.image_id}
            if isinstance(record.image_id, str):
                entry["file_name"] = record.file_name
            entry |= {"category_id": dataset.category_ids[label], "bbox": box, "score": score}
            if mask:
                entry["segmentation"] = {"size": [record.height, record.width], "counts": mask}
            file.add(entry)


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
