"""Detections that were stored beforehand as a teacher. It reads no images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, DetdistillError, counted
from detdistill.core.files import open_regular
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.core.structures import TeacherBoxes
from detdistill.core.texts import name_of
from detdistill.data.detections_folder import FILE_NAME, read_detections, read_header
from detdistill.data.stored_detections import StoredDetections
from detdistill.data.stored_images import ImagesOfSplits
from detdistill.data.stored_results import read_stored_results
from detdistill.teachers.teacher import Guidance, TeacherBatch

KNOWN_FLOOR = 0.05
"""Floor up to which objects without a stored box are rare."""
_NAMED = 3  # images that a message names


class StoredTeacher:
    """A teacher whose boxes come with the batch.

    Args:
        stored: Its detections.
        origin: See `Teacher.origin`.
        notes: What a user should know about them, a line each.
    """

    kind = "stored detections"
    offers: frozenset[Offer] = frozenset({"boxes", "opinions"})
    tower_head = None

    def __init__(self, stored: StoredDetections, origin: Mapping[str, Any], notes: Sequence[str] = ()) -> None:
        self.stored = stored
        self.origin = origin
        self._notes = list(notes)

    @property
    def classes(self) -> tuple[str, ...]:
        """Those of the stored detections."""
        return self.stored.classes

    def guide(self, batch: TeacherBatch) -> Guidance:
        """Return the boxes that came with the batch; none in a batch of images that were never predicted."""
        if batch.stored is not None:
            return Guidance(boxes=batch.stored)
        nothing = TeacherBoxes(
            torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0, len(self.classes)), self.stored.floor
        )
        return Guidance(boxes=(nothing.to(batch.images.device),) * len(batch.images))

    def notes(self, student: InputSpec) -> list[str]:  # noqa: ARG002 (it reads no images)
        """Return what was left out or changed, and a warning of a high floor."""
        return [*self._notes, *_floor_notes(self.stored.floor)]


def is_stored(path: Path) -> bool:
    """Return whether a path is one of stored detections: a folder with `detections.json`, or a JSON file."""
    return (path / FILE_NAME).exists() or path.suffix.lower() == ".json"


def load_stored_teacher(source: str, dataset: DetectionDataset) -> StoredTeacher:
    """Load stored detections as a teacher.

    Args:
        source: A folder that `store_detections` wrote, or a COCO-results file.
        dataset: What it is to teach on.

    Raises:
        DetdistillError: The folder or file cannot be read.
        DataError: Images of the dataset were never predicted, have other sizes, or the file has malformed entries.
    """
    path = Path(source).expanduser()
    if not (path / FILE_NAME).exists():
        found = read_stored_results(path, dataset)
        origin: dict[str, Any] = {"detections": source, "sha256": _sha256(path)}
        return StoredTeacher(found.detections, origin, [f"{source}: {note}" for note in found.notes])
    header = read_header(path)
    stored = read_detections(path, header)
    split = _check_coverage(source, stored, dataset)
    # Detections of other splits may be added later without a change for this dataset.
    own = [entry.sha256 for entry in header.parts if entry.split == split]
    decides = json.dumps([header.classes, header.floor, own]).encode()
    origin = {
        "detections": source,
        "sha256": hashlib.sha256(decides).hexdigest(),
        "teacher": dict(header.teacher),
    }
    return StoredTeacher(stored, origin)


def _check_coverage(source: str, stored: StoredDetections, dataset: DetectionDataset) -> str:
    """Return the split whose detections are those of a dataset.

    Raises:
        DataError: Some of its images were never predicted.
    """
    assert isinstance(stored.images, ImagesOfSplits)
    rows = stored.rows_of(dataset)
    missing = (rows < 0).nonzero()[0].tolist()
    if missing:
        names = [dataset.images.file_names[image] for image in missing[:_NAMED]]
        why = ""
        if len(missing) == len(rows) and set(names) <= set(stored.images.names):
            why = " (images of these names were predicted, but the files differ)"
        raise DataError(
            f"{source}: {len(missing):,} of {counted(len(rows), 'image')} of {dataset.source} have no stored "
            f"detections{why}, the first: {', '.join(map(name_of, names))}; predict them with "
            f"`detdistill predict TEACHER DATA --store {source}`"
        )
    if not len(rows):
        return ""
    return stored.images.splits[int(stored.images.split[rows[0]])]


def _floor_notes(floor: float) -> list[str]:
    if floor <= KNOWN_FLOOR:
        return []
    return [
        f"WARNING: stored detections: the lowest score is {floor:.2g}, expected at most {KNOWN_FLOOR:g}. What lies "
        "below is unknown: at .5 about a quarter of the objects have no opinion. Predict with a lower threshold"
    ]


def _sha256(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror}") from error
