"""The detections of a whole data set in memory, and as a COCO-results file: a list of image, class, box and score."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray

from detdistill.annotations import DetectionDataset
from detdistill.errors import DataError, Problem
from detdistill.files import write_atomically

if TYPE_CHECKING:
    from detdistill.structures import Detections

LARGEST_NUMBER = 1e9  # pixels; areas and sums stay far from overflow


@dataclass(frozen=True, eq=False)
class Results:
    """The K detections of a data set; where scores are tied, the earlier one ranks first.

    Attributes:
        image: `(K,)` int64, index into the data set's `images`.
        xywh: `(K, 4)` float64, x y width height in pixels of the image file, as results files have them: a width that
            is worked out from corners differs in its last bit, and an overlap may then just miss a threshold.
        scores: `(K,)` float64.
        labels: `(K,)` int64, index into the data set's `classes`.
    """

    image: NDArray[np.int64]
    xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def boxes(self) -> NDArray[np.float64]:
        """`(K, 4)` float64, x1 y1 x2 y2 in pixels of the image file."""
        return np.concatenate((self.xywh[:, :2], self.xywh[:, :2] + self.xywh[:, 2:]), axis=1)

    @classmethod
    def from_detections(cls, detections: Iterable[tuple[int, Detections]]) -> Self:
        """Joins what a detector found.

        Args:
            detections: pairs of an index into the data set's `images` and what was found there, its boxes in pixels
                of the image file. Images where nothing was found may be left out.

        Raises:
            DataError: a box or score is not finite.
        """
        parts = [cls.empty()]
        for image, found in detections:
            boxes, scores, labels = (tensor.cpu().numpy() for tensor in (found.boxes, found.scores, found.labels))
            parts.append(cls(np.full(len(labels), image), to_xywh(boxes.astype(float)), scores.astype(float), labels))
        joined = cls.join(parts)
        finite = np.isfinite(joined.xywh).all(axis=1) & np.isfinite(joined.scores)
        if not finite.all():
            raise DataError(
                f"{np.count_nonzero(~finite)} of {len(joined)} detections hold numbers that are not finite, the first "
                f"in image {joined.image[~finite][0]}: the detector's weights or its precision are broken"
            )
        return joined

    @classmethod
    def empty(cls) -> Self:
        """No detection at all."""
        return cls(np.zeros(0, np.int64), np.zeros((0, 4)), np.zeros(0), np.zeros(0, np.int64))

    @classmethod
    def join(cls, parts: Sequence[Self]) -> Self:
        """All detections of one or more parts of a data set."""
        return cls(
            np.concatenate([part.image for part in parts]),
            np.concatenate([part.xywh for part in parts]),
            np.concatenate([part.scores for part in parts]),
            np.concatenate([part.labels for part in parts]),
        )


def to_xywh(boxes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`(K, 4)` x1 y1 x2 y2 as `(K, 4)` x y width height."""
    return np.concatenate((boxes[:, :2], boxes[:, 2:] - boxes[:, :2]), axis=1)


def read_results(path: Path, dataset: DetectionDataset) -> Results:
    """Reads a COCO-results file.

    Args:
        path: JSON, a list of `{"image_id", "category_id", "bbox": [x, y, width, height], "score"}`, in pixels. Other
            keys are allowed and ignored.
        dataset: what the ids refer to.

    Raises:
        DataError: the file is not of this form, or an id is not one of `dataset`; every problem is listed.
    """
    try:
        entries = json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not JSON: {error}") from error
    if not isinstance(entries, list):
        raise DataError(
            f"{path} is no COCO-results file: that is a list of detections, this is {_kind(entries)}"
            + (", as in an annotation file" if isinstance(entries, dict) and "annotations" in entries else "")
        )
    image_of = {record.image_id: index for index, record in enumerate(dataset.images)}
    label_of = {category: label for label, category in enumerate(dataset.category_ids)}
    problems = [
        Problem(f"entry {number}", what, fatal=True)
        for number, entry in enumerate(entries)
        if (what := _malformed(entry)) is not None
    ]
    if problems:
        raise DataError(f"{path} cannot be scored, entries counted from 0:", problems)
    problems = [
        *_unknown([entry["image_id"] for entry in entries], image_of, "image_id"),
        *_unknown([entry["category_id"] for entry in entries], label_of, "category_id"),
    ]
    if problems:
        raise DataError(
            f"{path} names images or classes that {dataset.source} does not have: score it with the annotations that "
            "the detections were made for. Entries counted from 0:",
            problems,
        )
    return Results(
        np.array([image_of[entry["image_id"]] for entry in entries], dtype=np.int64),
        np.array([entry["bbox"] for entry in entries], dtype=float).reshape(-1, 4),
        np.array([entry["score"] for entry in entries], dtype=float),
        np.array([label_of[entry["category_id"]] for entry in entries], dtype=np.int64),
    )


def write_results(path: Path, results: Results, dataset: DetectionDataset) -> None:
    """Writes a COCO-results file, whole or not at all.

    Images go by their id; where the data set's format has no ids (VOC, YOLO) that is the file's stem, and `file_name`
    stands beside it.

    Raises:
        DetdistillError: the file cannot be written.
    """
    entries = []
    columns = (results.image, results.xywh, results.scores, results.labels)
    for image, box, score, label in zip(*(column.tolist() for column in columns), strict=True):
        record = dataset.images[image]
        entry: dict[str, Any] = {"image_id": record.image_id}
        if isinstance(record.image_id, str):
            entry["file_name"] = record.file_name
        entries.append(entry | {"category_id": dataset.category_ids[label], "bbox": box, "score": score})
    write_atomically(path, json.dumps(entries, ensure_ascii=False, allow_nan=False))


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


def _unknown(ids: Sequence[int | str], known: dict[Any, int], key: str) -> list[Problem]:
    """One problem for each id that `known` lacks."""
    entries = defaultdict(list)
    for number, identity in enumerate(ids):
        if identity not in known:
            entries[identity].append(number)
    example = f"such as {next(iter(known))!r}" if known else "it has none"
    return [
        Problem(
            f"entry {numbers[0]}" + (f" and {len(numbers) - 1} more" if len(numbers) > 1 else ""),
            f"{key} {identity!r} is not among the {len(known)} known ({example})",
            fatal=True,
        )
        for identity, numbers in entries.items()
    ]


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a string", type(None): "null", bool: "true or false"}.get(
        type(value), "a number"
    )
