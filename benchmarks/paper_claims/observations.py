"""The paper's observations, measured on a student beside its teacher, as `detdistill analyze` does."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from detdistill.analysis.measure import measure
from detdistill.analysis.observation import ALL, MEASURES
from detdistill.core.image_options import ImageOptions
from detdistill.data.opening import open_dataset
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.storage import load_detector, read_description

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
        load_detector(teacher),
        {student.name: load_detector(student)},
        open_dataset(data, SPLIT),
        ImageOptions(**asdict(size)),
        InferenceOptions(),
    )
    (own,) = measured.students
    return {
        "split": SPLIT,
        "images": len(measured.dataset.images),
        "AP": own.scores.AP,
        "AP_teachers_order_within": own.teachers_order_within.AP,
        "AP_teachers_order": own.teachers_order.AP,
        "AP_teachers_boxes": own.teachers_boxes.AP,
        **{name: own.observation.ranks.mean(ALL, name) for name in MEASURES},
    }
