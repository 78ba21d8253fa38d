"""The entries of COCO-results files: a JSON list of image, class, box and score."""

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
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, Problem
from detdistill.core.files import read_regular

LARGEST_FILE = 1 << 32
"""Bytes: about thirty million detections."""
LARGEST_NUMBER = 1e9  # pixels; areas and sums stay far from overflow

Unknown = Mapping[int | str, Sequence[int]]
"""Ids and names that a dataset lacks, with the numbers of the entries that have them."""


def read_entries(path: Path) -> list[Any]:
    """Read the entries of a COCO-results file.

    Args:
        path: JSON, a list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`, in pixels.

    Raises:
        DataError: The file cannot be read, is no JSON list, or an entry is malformed; every problem is listed.
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
        raise DataError(f"{path} has malformed entries, counted from 0:", problems)
    return entries


def have_masks(entries: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether an entry has a mask."""
    return any(entry.get("segmentation") for entry in entries)


def images_of(entries: Sequence[Mapping[str, Any]], dataset: DetectionDataset) -> tuple[NDArray[np.int64], Unknown]:
    """Return the index of each entry's image `(n,)`, -1 for images that the dataset lacks, and what these are called.

    Where an entry has a `file_name` that is one of the dataset's images, by its path or as the annotations name it,
    this decides instead of `image_id`.
    """
    by_id: dict[Any, int] = {image_id: index for index, image_id in enumerate(dataset.images.image_ids)}
    by_file: dict[str, int] = {}
    folders: dict[str, str] = {}
    if any(isinstance(entry.get("file_name"), str) for entry in entries):
        for place, record in enumerate(dataset.images):
            by_file.setdefault(record.file_name, place)
            by_file[_real_path(str(record.path), folders)] = place
    found = np.full(len(entries), -1, dtype=np.int64)
    unknown: dict[int | str, list[int]] = defaultdict(list)
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
            found[number] = index
    return found, unknown


def labels_of(entries: Sequence[Mapping[str, Any]], dataset: DetectionDataset) -> tuple[NDArray[np.int64], Unknown]:
    """Return the label of each entry `(n,)`, -1 for classes that the dataset lacks, and what these are called.

    A `category_name` decides instead of `category_id`.
    """
    by_id: dict[Any, int] = {category: label for label, category in enumerate(dataset.category_ids)}
    by_name: dict[Any, int] = {name: label for label, name in enumerate(dataset.classes)}
    found = np.full(len(entries), -1, dtype=np.int64)
    unknown: dict[int | str, list[int]] = defaultdict(list)
    for number, entry in enumerate(entries):
        name = entry.get("category_name")
        what, labels = (name, by_name) if isinstance(name, str) else (entry["category_id"], by_id)
        label = labels.get(what)
        if label is None:
            unknown[what].append(number)
        else:
            found[number] = label
    return found, unknown


def known_images(dataset: DetectionDataset) -> str:
    """Name a few ids of a dataset's images, for messages."""
    ids = dataset.images.image_ids
    return f"{len(ids)} of the dataset ({f'such as {ids[0]!r}' if ids else 'it has none'})"


def known_classes(dataset: DetectionDataset) -> str:
    """Name a few classes of a dataset with their ids, for messages."""
    pairs = zip(dataset.category_ids, dataset.classes, strict=True)
    some = ", ".join(f"{category} {name}" for category, name in islice(pairs, 3))
    return f"{len(dataset.classes)} of the dataset (such as {some})"


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


def _real_path(path: str, folders: dict[str, str]) -> str:
    """Return an absolute path without links in its folder; `folders` keeps what was looked up."""
    folder, name = os.path.split(os.path.abspath(path))  # noqa: PTH100
    if folder not in folders:
        try:
            folders[folder] = os.path.realpath(folder)
        except ValueError:  # a NUL, which no path has
            folders[folder] = folder
    return os.path.join(folders[folder], name)  # noqa: PTH118


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )
