"""A teacher from what a recipe or the command line names."""

from __future__ import annotations

from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.description import FILE_NAME
from detdistill.detectors.storage import load_detector, read_description
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import Teacher


def load_teacher(source: str, dataset: DetectionDataset, *, channels_last: bool = False) -> Teacher:  # noqa: ARG001
    """Load a teacher.

    Args:
        source: folder of a trained, distilled or imported detector.
        dataset: what it is to teach on: for teachers that know no class names of their own.
        channels_last: store images with the channels innermost.

    Raises:
        DetdistillError: it is not there, damaged, or of no known kind.
    """
    path = Path(source).expanduser()
    if (path / FILE_NAME).exists():
        origin = {"folder": source, "weights_sha256": read_description(path).weights_sha256}
        return DetectorTeacher(folded(load_detector(path)), channels_last=channels_last, origin=origin)
    raise DetdistillError(f"teacher {source}: expected the folder of a trained, distilled or imported detector")
