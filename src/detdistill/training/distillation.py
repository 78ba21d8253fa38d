"""A student that is trained with a teacher, from recipe to run folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import is_first_process
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.seeds import derived_seed
from detdistill.core.settings import to_values
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
from detdistill.training.recipe import Distillation, Recipe
from detdistill.training.recipe_file import recipe_from
from detdistill.training.run import Lesson, Summary, fit
from detdistill.training.teacher_score import quick_look, teacher_metrics

FIRST_BATCHES = 8
"""Batches among which preflight looks for one with objects."""


def distill(
    data_or_recipe: str | PathLike[str] | Recipe,
    teacher: str | PathLike[str] | Detector | None,
    out: str | PathLike[str],
    *,
    student: Detector | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Train a student with a teacher. The run folder holds the student alone.

    Args:
        data_or_recipe: Dataset (COCO, PASCAL VOC, YOLO or CSV), for a recipe with defaults, or a `Recipe`.
        teacher: Folder of a trained, distilled or imported detector; or any `Detector` that passes `check_detector`,
            for which `distill.teacher` is only a name in the record. None for the recipe's `distill.teacher`.
        out: Folder of the run; as in `train`.
        student: A detector of your own, with the weights that it starts from, instead of the one that the sections
            `detector` and `start` describe.
        resume: Resume although the recipe changed (compatible changes only).
        overwrite: Delete the existing run and start over.
        **settings: Sections and values of the recipe, for example `distill={"terms": {"hint": {}}}, batch_size=8`.

    Returns:
        The summary of the finished run.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; the same call goes on.
        DivergedError: a loss is not finite.
        SettingsError: An unknown key or a wrong value, or no teacher.
        DetdistillError: the data, the teacher or the folder cannot be used, teacher and student do not fit, or memory
            or disk do not suffice.
    """
    recipe, own_teacher = taught_by(data_or_recipe, teacher, settings)
    named = Path(recipe.distillation.teacher).expanduser()
    if own_teacher is None and named.resolve().is_relative_to(Path(out).resolve()):
        raise DetdistillError(
            f"the teacher {named} lies in the folder of the run, {out}: name another folder, for the student would "
            "take its place"
        )

    def lesson(detector: Detector, dataset: DetectionDataset, validation: DetectionDataset | None) -> Lesson:
        distiller, made, notes = make_distiller(recipe, detector, own_teacher)
        if is_first_process():
            report = _preflight(recipe, distiller, made, dataset, validation, notes)
            print(report, file=sys.stderr, flush=True)

        def teacher_score(data: DetectionDataset) -> float | None:
            made.to(next(distiller.student.parameters()).device)
            return teacher_metrics(made, data, recipe).AP

        sha256 = read_description(named).weights_sha256 if own_teacher is None else None
        return Lesson(distiller, lambda: _origin(recipe, distiller, sha256), teacher_score)

    return fit(recipe, out, lesson, detector=student, resume=resume, overwrite=overwrite)


def taught_by(
    data_or_recipe: str | PathLike[str] | Recipe,
    teacher: str | PathLike[str] | Detector | None,
    settings: Mapping[str, Any],
) -> tuple[Recipe, Detector | None]:
    """Return the recipe of a distillation, and the teacher if it is a detector and no folder.

    Raises:
        SettingsError: An unknown key or a wrong value, or no teacher.
    """
    own = None if teacher is None or isinstance(teacher, str | PathLike) else teacher
    if teacher is None:
        recipe = recipe_from(data_or_recipe, settings)
    else:
        section = settings.get("distill", {})
        given = to_values(section) if isinstance(section, Distillation) else dict(section)
        has_name = isinstance(data_or_recipe, Recipe) and data_or_recipe.distill is not None
        if own is None:
            given["teacher"] = str(teacher)
        elif not has_name:
            given.setdefault("teacher", type(own).__name__)
        recipe = recipe_from(data_or_recipe, {**settings, "distill": given} if given else settings)
    recipe.distillation  # noqa: B018 (refuses a recipe without a teacher)
    return recipe, own


def check(
    data_or_recipe: str | PathLike[str] | Recipe,
    teacher: str | PathLike[str] | Detector | None = None,
    *,
    student: Detector | None = None,
    **settings: Any,
) -> str:
    """Describe what fits between teacher and student, and what the first batch gives; nothing is written.

    Args:
        data_or_recipe: As in `distill`.
        teacher: As in `distill`.
        student: As in `distill`.
        **settings: As in `distill`.

    Raises:
        DetdistillError: what cannot fit.
    """
    recipe, own_teacher = taught_by(data_or_recipe, teacher, settings)
    dataset, validation = open_training_data(recipe.data, recipe.images)
    torch.manual_seed(derived_seed(recipe.seed, "weights"))
    learning = starting_detector(recipe, dataset.classes, student)
    distiller, made, notes = make_distiller(recipe, learning, own_teacher)
    return _preflight(recipe, distiller, made, dataset, validation, notes)


def make_distiller(
    recipe: Recipe, student: Detector, teacher: Detector | None = None
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
    distillation = recipe.distillation
    is_own = teacher is None
    if teacher is None:
        folder = Path(distillation.teacher).expanduser()
        teacher = load_detector(folder)
        made_for = read_description(folder).input.size
        own, theirs = _in_words(recipe.images), made_for and _in_words(made_for)
        if theirs is not None and theirs != own:
            notes.append(f"image size: the teacher was made for {theirs}; both get {own}")
    else:
        check_detector(teacher)
    if distillation.init_from_teacher:
        notes.append(inherit(student, teacher, distillation.init_from_teacher))
    if is_own:
        teacher = folded(teacher)
    terms, weights = build_terms(
        distillation.terms, weight=distillation.weight, ratio=distillation.ratio, detector=student.kind
    )
    distiller = Distiller(
        student,
        teacher,
        terms,
        weights=weights,
        class_table=distillation.class_map,
        channels_last=recipe.machine.channels_last,
        memory=TeacherMemory(distillation.memory) if distillation.memory else None,
        seed=derived_seed(recipe.seed, "adapters"),
    )
    return distiller, teacher, notes


def _in_words(size: ImageOptions | ImageSize) -> str:
    if size.letterbox is not None:
        return f"a square of {size.letterbox} px"
    return f"sides of {size.short_side} and at most {size.long_side} px"


def _preflight(
    recipe: Recipe,
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
    if recipe.distillation.memory:
        guidance = distiller.guide(batch.images, batch.targets.sizes)
        room = memory_note(recipe.distillation.memory, guidance, len(batch.images), len(dataset.images), recipe.images)
        notes = [*notes, room]
    return "\n".join([*notes, str(report), *look])


def _origin(recipe: Recipe, distiller: Distiller, teacher_sha256: str | None) -> dict[str, Any]:
    return {
        "made_by": "distillation",
        "teacher": {"folder": recipe.distillation.teacher, "weights_sha256": teacher_sha256},
        "terms": recipe.distillation.terms,
        "weights": {name: weight.value for name, weight in distiller.weighting.terms.items()},
    }
