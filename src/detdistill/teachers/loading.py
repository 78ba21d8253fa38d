"""A teacher from what a recipe, the command line or Python names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from torch import nn

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.detectors.base import Detector
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.description import FILE_NAME
from detdistill.detectors.storage import load_detector, read_description
from detdistill.teachers.callable_teacher import CALLABLE, PYTHON, CallableTeacher, Predict, imported, name_of
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.joint_teacher import JointTeacher
from detdistill.teachers.onnx.onnx_card import CARD, card_sha256
from detdistill.teachers.stored_teacher import is_stored, load_stored_teacher, stored_origin
from detdistill.teachers.teacher import Teacher
from detdistill.teachers.transformers.transformers_folder import CONFIG, is_transformers, local_folder, read_folder

GivenTeacher = Detector | Teacher | Predict
"""A teacher that is an object, not the name of one."""
NamedTeacher = str | PathLike[str] | Sequence[str | PathLike[str]]
"""What `load_teacher` reads, or several of them."""


def load_teacher(source: str, dataset: DetectionDataset, *, channels_last: bool = False) -> Teacher:
    """Load a teacher.

    Args:
        source: folder of a trained, distilled or imported detector, of an imported ONNX file, or of a detector of
            transformers, which may also be named as `hf://owner/name`; folder of stored detections, or COCO-results
            file; or `python:package.module:function`.
        dataset: what it is to teach on: for teachers that know no class names of their own.
        channels_last: store images with the channels innermost.

    Raises:
        DetdistillError: it is not there, damaged, or of no known kind.
    """
    if source.startswith(PYTHON):
        return imported(source)
    if source.startswith(CALLABLE):
        raise DetdistillError(
            f"teacher {source} is a function that was passed in Python: pass it again (distill(data, function, out)), "
            f"or name it as {PYTHON}package.module:function, which also works on the command line, with several "
            "processes and in comparisons"
        )
    path = Path(source).expanduser()
    if (path / FILE_NAME).exists():
        return DetectorTeacher(folded(load_detector(path)), channels_last=channels_last, origin=origin_of(source))
    if is_transformers(source):
        from detdistill.teachers.transformers.transformers_teacher import load_transformers

        return load_transformers(source)
    if (path / CARD).exists():
        from detdistill.teachers.onnx.onnx_teacher import load_onnx_teacher

        return load_onnx_teacher(path, origin_of(source))
    if is_stored(path):
        return load_stored_teacher(source, dataset)
    raise _unknown(source)


def load_teachers(
    sources: Sequence[str], dataset: DetectionDataset, *, weights: Sequence[float] = (), channels_last: bool = False
) -> Teacher:
    """Load a teacher, or several as one; see `load_teacher` and `JointTeacher`.

    Args:
        sources: at least one.
        dataset: what they are to teach on.
        weights: one for each of several; empty for equal ones.
        channels_last: store images with the channels innermost.
    """
    teachers = [load_teacher(source, dataset, channels_last=channels_last) for source in sources]
    return teachers[0] if len(teachers) == 1 else JointTeacher(teachers, weights)


def as_teacher(given: GivenTeacher, *, channels_last: bool = False) -> Teacher:
    """Return a detector, a function or a teacher as a teacher. A detector of the user's own stays as it is.

    Raises:
        DetdistillError: a detector does not meet the contract, or a function has no class names.
    """
    if isinstance(given, nn.Module):
        detector: Any = given  # `check_detector` refuses other modules
        check_detector(detector)
        return DetectorTeacher(detector, channels_last=channels_last)
    return given if isinstance(given, Teacher) else CallableTeacher(given, name_of(given))


def origin_of(source: str) -> Mapping[str, Any]:
    """What a run remembers of a named teacher, without loading it.

    Raises:
        DetdistillError: it is not there, or damaged.
    """
    path = Path(source).expanduser()
    if (path / FILE_NAME).exists():
        return {"source": source, "sha256": read_description(path).weights_sha256}
    if is_transformers(source):
        return {"source": source, "sha256": read_folder(local_folder(source)).sha256()}
    if (path / CARD).exists():
        return {"source": source, "sha256": card_sha256(path)}
    if is_stored(path):
        return stored_origin(source)
    if source.startswith((PYTHON, CALLABLE)):
        return {"source": source, "sha256": None}
    raise _unknown(source)


def _unknown(source: str) -> DetdistillError:
    if not Path(source).expanduser().exists():
        return DetdistillError(f"teacher {source}: no such file or folder")
    return DetdistillError(
        f"teacher {source} is of no known kind; expected the folder of a trained, distilled or imported detector "
        f"(with {FILE_NAME}), an imported ONNX file (with {CARD}) or a detector of transformers (with {CONFIG}), "
        f"stored detections (a folder, or COCO-results JSON), or {PYTHON}package.module:function. Checkpoints of other "
        "libraries and ONNX files are brought in with `detdistill import`"
    )
