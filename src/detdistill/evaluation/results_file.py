"""COCO-results files: a JSON list of image, class, box and score."""

from __future__ import annotations

import json
import math
import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.files import read_regular
from detdistill.core.json_files import JsonListFile
from detdistill.evaluation.results import Results

LARGEST_FILE = 1 << 32
"""Bytes: about thirty million detections."""
LARGEST_NUMBER = 1e9  # pixels; areas and sums stay far from overflow


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
    try:
        entries = json.loads(read_regular(path, LARGEST_FILE))
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise DataError(
            f"{path} is no COCO-results file: that is a list of detections, this is {_kind(entries)}"
            + (", as in an annotation file" if isinstance(entries, dict) and "annotations" in entries else "")
        )
    problems = [
        Problem(f"entry {number}", what, fatal=True)
        for number, entry in enumerate(entries)
        if (what := _malformed(entry)) is not None
    ]
    if problems:
        raise DataError(f"{path} cannot be scored, entries counted from 0:", problems)
    images, problems = _images(entries, dataset)
    labels, unknown = _labels(entries, dataset)
    problems += unknown
    if problems:
        raise DataError(
            f"{path} names images or classes that {dataset.source} does not have: score it with the annotations that "
            "the detections were made for. Entries counted from 0:",
            problems,
        )
    return Results(
        np.array(images, dtype=np.int64),
        np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], dtype=float),
        np.array(labels, dtype=np.int64),
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


def _malformed(entry: object) -> str | None:
    """What is wrong with one entry in itself."""
    if not isinstance(entry, dict):
        return f"a detection is an object, this is {_kind(entry)}"
    if missing := [key for key in ("image_id", "category_id", "bbox", "score") if key not in entry]:
        return f"has no {', '.join(missing)}"
    for key in ("image_id", "category_id"):
        if not isinstance(entry[key], int | str) or isinstance(entry[key], bool):
            return f"{key} {entry[key]!r} is neither a whole number nor a string"
    box, score = entry["bbox"], entry["score"]
    if not (isinstance(box, list) and len(box) == 4 and all(_is_finite(n) and abs(n) < LARGEST_NUMBER for n in box)):
        return f"bbox {box!r} is not four finite numbers x, y, width, height"
    if box[2] < 0 or box[3] < 0:
        return f"bbox {box!r} has a negative width or height (expected is x, y, width, height)"
    if not _is_finite(score) or score < 0:
        return f"score {score!r} is not a finite number of at least 0"
    return None


def _is_finite(value: object) -> bool:
    try:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    except OverflowError:  # an integer of more than 308 digits
        return False


def _images(entries: Sequence[Mapping[str, Any]], dataset: DetectionDataset) -> tuple[list[int], list[Problem]]:
    """Return the index of each entry's image, and a problem for each image that the dataset lacks."""
    by_id: dict[Any, int] = {image_id: index for index, image_id in enumerate(dataset.images.image_ids)}
    by_file: dict[str, int] = {}
    folders: dict[str, str] = {}
    if any(isinstance(entry.get("file_name"), str) for entry in entries):
        for place, record in enumerate(dataset.images):
            by_file.setdefault(record.file_name, place)
            by_file[_real_path(str(record.path), folders)] = place
    found: list[int] = []
    unknown: dict[Any, list[int]] = defaultdict(list)
    of_file: dict[str, int | None] = {}
    for number, entry in enumerate(entries):
        name = entry.get("file_name")
        index: int | None = None
        if isinstance(name, str):
            if name not in of_file:
                of_file[name] = by_file.get(_real_path(name, folders), by_file.get(name))
            index = of_file[name]
        if index is None and not (isinstance(name, str) and os.path.isfile(name)):  # noqa: PTH113
            index = by_id.get(entry["image_id"])
        if index is None:
            unknown[name if isinstance(name, str) else entry["image_id"]].append(number)
        else:
            found.append(index)
    known = f"such as {next(iter(by_id))!r}" if by_id else "it has none"
    return found, [_unknown("image", what, numbers, len(by_id), known) for what, numbers in unknown.items()]


def _real_path(path: str, folders: dict[str, str]) -> str:
    """Return an absolute path without links in its folder; `folders` keeps what was looked up."""
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)  # noqa: PTH118


def _labels(entries: Sequence[Mapping[str, Any]], dataset: DetectionDataset) -> tuple[list[int], list[Problem]]:
    """Return the label of each entry, and a problem for each class that the dataset lacks."""
    by_id: dict[Any, int] = {category: label for label, category in enumerate(dataset.category_ids)}
    by_name: dict[Any, int] = {name: label for label, name in enumerate(dataset.classes)}
    found: list[int] = []
    unknown: dict[Any, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        name = entry.get("category_name")
        what, labels = (name, by_name) if isinstance(name, str) else (entry["category_id"], by_id)
        label = labels.get(what)
        if label is None:
            unknown[what].append(number)
        else:
            found.append(label)
    pairs = zip(dataset.category_ids, dataset.classes, strict=True)
    known = "such as " + ", ".join(f"{category} {name}" for category, name in islice(pairs, 3))
    return found, [_unknown("class", what, numbers, len(by_id), known) for what, numbers in unknown.items()]


def _unknown(kind: str, what: int | str, numbers: Sequence[int], count: int, known: str) -> Problem:
    where = f"entry {numbers[0]}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else "")
    return Problem(where, f"{kind} {what!r} is not among the {count} of the dataset ({known})", fatal=True)


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


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )
