"""The paper's observations, measured on a student beside its teacher, as `detdistill analyze` does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from detdistill.analysis.groups import ALL
from detdistill.analysis.measure import measure
from detdistill.analysis.observation import MEASURES
from detdistill.core.image_options import ImageOptions
from detdistill.data.opening import open_dataset
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.storage import load_detector, read_description
from detdistill.teachers.detector_teacher import DetectorTeacher

SPLIT = "val"


def observed(teacher: Path, student: Path, data: Path) -> dict[str, Any]:
    """How alike both rank the candidates of an object, and what the teacher's order or boxes would give the student.

    Args:
        teacher: its run folder.
        student: likewise.
        data: a data set with a part `val`.

    Returns:
        Means over objects by the names of `detdistill.analysis.observation`, and COCO's AP, all 0 to 1.
    """
    size = read_description(student).input.size
    assert size is not None
    measured = measure(
        DetectorTeacher(load_detector(teacher)),
        {student.name: load_detector(student)},
        open_dataset(data, SPLIT),
        ImageOptions(**asdict(size)),
        InferenceOptions(),
    )
    (own,) = measured.students
    within, order, boxes = own.teachers_order_within, own.teachers_order, own.teachers_boxes
    assert within is not None, "teacher and student have no level in common"
    assert order is not None
    assert boxes is not None
    return {
        "split": SPLIT,
        "images": len(measured.dataset.images),
        "AP": own.scores.AP,
        "AP_teachers_order_within": within.AP,
        "AP_teachers_order": order.AP,
        "AP_teachers_boxes": boxes.AP,
        **{name: own.observation.ranks.mean(ALL, name) for name in MEASURES},
    }
