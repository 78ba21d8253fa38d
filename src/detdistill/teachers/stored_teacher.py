"""Detections that were stored beforehand as a teacher. It reads no images."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.files import open_regular
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import BOX_OFFERS, Offer
from detdistill.core.structures import TeacherBoxes
from detdistill.data.detections_folder import FILE_NAME, DetectionsHeader, read_detections, read_header
from detdistill.data.stored_detections import StoredDetections
from detdistill.data.stored_results import read_stored_results
from detdistill.teachers.opinions import SURE_FLOOR
from detdistill.teachers.teacher import Guidance, TeacherBatch


class StoredTeacher:
    """A teacher whose boxes come with the batch.

    Args:
        stored: Its detections.
        origin: See `Teacher.origin`.
        notes: What a user should know about them, a line each.
    """

    kind = "stored detections"
    offers: frozenset[Offer] = BOX_OFFERS
    size = None
    tower_head = None
    region_reader = None

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
        dataset: What it is to teach on. A COCO-results file is read for its images; a folder tells images apart by
            their content.

    Raises:
        DetdistillError: The folder or file cannot be read.
        DataError: The file has malformed entries or nothing for the dataset, or an image has another size than the one
            that was predicted.
    """
    path = Path(source).expanduser()
    if (path / FILE_NAME).exists():
        header = read_header(path)
        stored = read_detections(path, header)
        return StoredTeacher(stored, stored_origin(source) | {"sha256": _sha256_for(header, stored, dataset)})
    found = read_stored_results(path, dataset)
    return StoredTeacher(found.detections, stored_origin(source), [f"{source}: {note}" for note in found.notes])


def stored_origin(source: str) -> dict[str, Any]:
    """Return where stored detections are, a hash of all of them, and of a folder the teacher that predicted them.

    Raises:
        DetdistillError: The folder or file cannot be read.
    """
    path = Path(source).expanduser()
    if not (path / FILE_NAME).exists():
        return {"source": source, "sha256": _sha256(path)}
    # The header has the hashes of all other files.
    return {"source": source, "sha256": _sha256(path / FILE_NAME), "teacher": dict(read_header(path).teacher)}


def _sha256_for(header: DetectionsHeader, stored: StoredDetections, dataset: DetectionDataset) -> str:
    """A hash of what decides the boxes of a dataset: other splits may be stored while a run is interrupted."""
    rows = stored.rows_of(dataset)
    ends = np.cumsum([entry.images for entry in header.parts])
    used = np.unique(np.searchsorted(ends, rows[rows >= 0], side="right"))
    deciding = [header.classes, header.floor, [header.parts[part].sha256 for part in used]]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()


def _floor_notes(floor: float) -> list[str]:
    if floor <= SURE_FLOOR:
        return []
    return [
        f"WARNING: stored detections: the lowest score is {floor:.2g}, expected at most {SURE_FLOOR:g}. What lies "
        "below is unknown: the higher it is, the more objects have no opinion. Predict with a lower threshold"
    ]


def _sha256(path: Path) -> str:
    try:
        with open_regular(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror}") from error
