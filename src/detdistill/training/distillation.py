"""A student that is trained with a teacher, from recipe to run folder."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.seeds import derived_seed
from detdistill.data.loading import training_loader
from detdistill.detectors.base import Detector
from detdistill.detectors.conformance import check_detector
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.storage import load_detector, read_description
from detdistill.distill.building import build_terms
from detdistill.distill.distiller import Distiller
from detdistill.distill.inheritance import inherit
from detdistill.distill.memory import TeacherMemory, memory_note
from detdistill.distill.preflight import preflight
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import open_training_data, starting_detector
from detdistill.training.recipe import DistillationRecipe
from detdistill.training.run import Lesson, Summary, fit
from detdistill.training.teacher_score import quick_look, teacher_metrics

FIRST_BATCHES = 8
"""Batches among which preflight looks for one with objects."""


def distill(
    recipe: DistillationRecipe,
    folder: str | Path,
    *,
    student: Detector | None = None,
    teacher: Detector | None = None,
    resume: bool = False,
    overwrite: bool = False,
) -> Summary:
    """Trains a student with a teacher. The run folder holds the student alone.

    Args:
        recipe: what to train on what, by whom, and how.
        folder: of the run; as in `train`.
        student: a detector of your own; as `detector` in `train`.
        teacher: instead of the one in the folder `recipe.teacher`: any `Detector` that passes `check_detector`;
            `recipe.teacher` is then only its name in the record.
        resume: go on although the recipe differs, where that is possible.
        overwrite: throw away a run that is there.

    Returns:
        What came out.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; the same call goes on.
        DivergedError: a loss is not finite.
        DetdistillError: the data, the recipe, the teacher or the folder cannot be used, teacher and student do not fit,
            or memory or disk do not suffice.
    """
    if teacher is None and Path(recipe.teacher).expanduser().resolve().is_relative_to(Path(folder).resolve()):
        raise DetdistillError(
            f"the teacher {recipe.teacher} lies in the folder of the run, {folder}: name another folder, for the "
            "student would take its place"
        )

    def lesson(detector: Detector, dataset: DetectionDataset, validation: DetectionDataset | None) -> Lesson:
        distiller, taught_by, notes = make_distiller(recipe, detector, teacher)
        if is_first_process():
            report = _preflight(recipe, distiller, taught_by, dataset, validation, notes)
            print(report, file=sys.stderr, flush=True)

        def teacher_score(data: DetectionDataset) -> float | None:
            taught_by.to(next(distiller.student.parameters()).device)
            return teacher_metrics(taught_by, data, recipe).AP

        sha256 = read_description(Path(recipe.teacher).expanduser()).weights_sha256 if teacher is None else None
        return Lesson(distiller, lambda: _origin(recipe, distiller, sha256), teacher_score)

    return fit(recipe, folder, lesson, detector=student, resume=resume, overwrite=overwrite)


def check(recipe: DistillationRecipe, *, student: Detector | None = None, teacher: Detector | None = None) -> str:
    """What fits between teacher and student, and what the first batch gives, in plain words; nothing is written.

    Args:
        recipe: of the distillation.
        student: as in `distill`.
        teacher: as in `distill`.

    Raises:
        DetdistillError: what cannot fit.
    """
    dataset, validation = open_training_data(recipe.data, recipe.images)
    torch.manual_seed(derived_seed(recipe.seed, "weights"))
    distiller, taught_by, notes = make_distiller(recipe, starting_detector(recipe, dataset.classes, student), teacher)
    return _preflight(recipe, distiller, taught_by, dataset, validation, notes)


def make_distiller(
    recipe: DistillationRecipe, student: Detector, teacher: Detector | None = None
) -> tuple[Distiller, Detector, list[str]]:
    """The distiller of a recipe, its teacher, and what is to be said of its making.

    Args:
        recipe: of the distillation.
        student: its detector.
        teacher: as in `distill`.

    Raises:
        DetdistillError: what cannot fit.
    """
    notes: list[str] = []
    is_own = teacher is None
    if teacher is None:
        folder = Path(recipe.teacher).expanduser()
        teacher = load_detector(folder)
        made_for = read_description(folder).input.size
        own, theirs = _in_words(recipe.images), made_for and _in_words(made_for)
        if theirs is not None and theirs != own:
            notes.append(f"image size: the teacher was made for {theirs}; both get {own}")
    else:
        check_detector(teacher)
    if recipe.init_from_teacher:
        notes.append(inherit(student, teacher, recipe.init_from_teacher))
    if is_own:
        teacher = folded(teacher)
    terms, weights = build_terms(recipe.terms, weight=recipe.weight, ratio=recipe.ratio, detector=student.kind)
    distiller = Distiller(
        student,
        teacher,
        terms,
        weights=weights,
        class_table=recipe.class_map,
        channels_last=recipe.machine.channels_last,
        memory=TeacherMemory(recipe.teacher_memory) if recipe.teacher_memory else None,
        seed=derived_seed(recipe.seed, "adapters"),
    )
    return distiller, teacher, notes


def _in_words(size: ImageOptions | ImageSize) -> str:
    if size.letterbox is not None:
        return f"a square of {size.letterbox} px"
    return f"sides of {size.short_side} and at most {size.long_side} px"


def _preflight(
    recipe: DistillationRecipe,
    distiller: Distiller,
    teacher: Detector,
    dataset: DetectionDataset,
    validation: DetectionDataset | None,
    notes: Sequence[str],
) -> str:
    loader = training_loader(
        dataset,
        recipe.images,
        batch_size=recipe.images_per_process // recipe.accumulate,
        seed=recipe.seed,
        difficult=recipe.data.difficult,
    )
    for batch in islice(loader, FIRST_BATCHES):
        if len(batch.targets.labels):
            break
    device = device_beside_training(recipe.machine)
    distiller.to(device)
    batch = batch.to(device)
    report = preflight(distiller, batch.images, batch.targets)
    look = quick_look(teacher, dataset, validation, recipe)
    if recipe.teacher_memory:
        guidance = distiller.guide(batch.images, batch.targets.sizes)
        room = memory_note(recipe.teacher_memory, guidance, len(batch.images), len(dataset.images), recipe.images)
        notes = [*notes, room]
    return "\n".join([*notes, str(report), *look])


def _origin(recipe: DistillationRecipe, distiller: Distiller, teacher_sha256: str | None) -> dict[str, Any]:
    return {
        "made_by": "distillation",
        "teacher": {"folder": recipe.teacher, "weights_sha256": teacher_sha256},
        "terms": recipe.terms,
        "weights": {name: weight.value for name, weight in distiller.weighting.terms.items()},
    }
