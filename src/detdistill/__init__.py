"""Knowledge distillation of object detectors. Importing this package imports neither torch nor numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

# The room `distill` has the name of a function of the front door. Once imported, it never sets this name again.
import detdistill.distill  # noqa: F401

if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike

    from detdistill.detectors.base import Detector
    from detdistill.teachers.loading import GivenTeacher, NamedTeacher
    from detdistill.training.recipe import DetectorSettings, Recipe
    from detdistill.training.summary import Summary

__all__ = ["distill", "load", "train"]


def load(folder: str | PathLike[str], into: Detector | None = None) -> Detector:
    """Load the detector of a run folder, in evaluation mode, on the CPU.

    Args:
        folder: Folder with `model.safetensors` and `model.json`, as training, distilling and importing write it.
        into: A detector of your own class, which gets the weights, if the folder holds one.

    Raises:
        DetdistillError: A file is missing, damaged, not ours, or of a newer format.
    """
    from pathlib import Path

    from detdistill.detectors.storage import load_detector

    return load_detector(Path(folder), into)


def train(
    data_or_recipe: str | PathLike[str] | Recipe,
    out: str | PathLike[str],
    *,
    detector: Detector | DetectorSettings | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Train a detector; see `detdistill.training.run.train`.

    Args:
        data_or_recipe: Dataset (COCO, PASCAL VOC, YOLO or CSV), for a recipe with defaults, or a `Recipe`.
        out: Folder of the run; an interrupted run of the same recipe is resumed.
        detector: The recipe's `detector` section, or a detector of your own.
        resume: Resume although the recipe changed (compatible changes only).
        overwrite: Delete the existing run and start over.
        **settings: Sections and values of the recipe, for example `schedule={"epochs": 3}, batch_size=8`.
    """
    from detdistill.training import run

    return run.train(data_or_recipe, out, detector=detector, resume=resume, overwrite=overwrite, **settings)


def distill(
    data_or_recipe: str | PathLike[str] | Recipe,
    teacher: NamedTeacher | GivenTeacher | None,
    out: str | PathLike[str],
    *,
    student: Detector | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Train a student with a teacher; see `detdistill.training.run.distill`.

    Args:
        data_or_recipe: Dataset (COCO, PASCAL VOC, YOLO or CSV), for a recipe with defaults, or a `Recipe`.
        teacher: Folder of a detector, stored detections, or another name of a teacher, or several of them; or a
            `Detector`, a function, or a `Teacher`; None for the recipe's.
        out: Folder of the run; an interrupted run of the same recipe is resumed.
        student: A detector of your own, instead of the recipe's.
        resume: Resume although the recipe changed (compatible changes only).
        overwrite: Delete the existing run and start over.
        **settings: Sections and values of the recipe, for example `distill={"terms": {"hint": {}}}, batch_size=8`.
    """
    from detdistill.training import run

    return run.distill(data_or_recipe, teacher, out, student=student, resume=resume, overwrite=overwrite, **settings)
