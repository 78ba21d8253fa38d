"""A training run from recipe to run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from timm.layers.norm_act import convert_sync_batchnorm
from torch import nn

from detdistill.core.annotations import DetectionDataset
from detdistill.core.console import print_err
from detdistill.core.distributed import is_first_process, note
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.seeds import derived_seed
from detdistill.core.settings import to_values
from detdistill.detectors.base import Detector
from detdistill.teachers.callable_teacher import name_of
from detdistill.teachers.loading import GivenTeacher, NamedTeacher
from detdistill.teachers.teacher import Teacher
from detdistill.training.checkpoint import read_checkpoint
from detdistill.training.distillation_settings import Distillation
from detdistill.training.distilled import Distilled, recipe_teacher
from detdistill.training.freezing import make_ready
from detdistill.training.loggers import Loggers
from detdistill.training.loop import Loop
from detdistill.training.machine import check_device, check_processes, fabric_of, launch, threads_restored, told_errors
from detdistill.training.materials import first_batch, has_masks, open_training_data, starting_detector
from detdistill.training.probe import choose
from detdistill.training.recipe import DetectorSettings, Recipe
from detdistill.training.recipe_file import recipe_from, write_recipe
from detdistill.training.run_folder import RunFolder
from detdistill.training.scores import Scores
from detdistill.training.starts import compare_starts
from detdistill.training.summary import Summary, read_summary, write_summary
from detdistill.training.task import Supervised, Task
from detdistill.training.unlabelled import with_unlabelled


def train(
    data_or_recipe: str | PathLike[str] | Recipe,
    out: str | PathLike[str],
    *,
    detector: Detector | DetectorSettings | Mapping[str, Any] | None = None,
    resume: bool = False,
    overwrite: bool = False,
    **settings: Any,
) -> Summary:
    """Train a detector.

    The folder gets `recipe.yaml`, `model.safetensors` and `model.json` (`detdistill.load` reads them),
    `metrics.jsonl`, `summary.json`, and `resume/`, from which the same call goes on after an interruption.

    Args:
        data_or_recipe: Dataset (COCO, PASCAL VOC, YOLO or CSV), for a recipe with defaults, or a `Recipe`.
        out: Folder of the run; an interrupted run of the same recipe is resumed, a finished one stays as it is.
        detector: The recipe's `detector` section, or a detector of your own, with the weights that it starts from,
            instead of the one that the sections `detector` and `start` describe.
        resume: Resume although the recipe changed (compatible changes only).
        overwrite: Delete the existing run and start over.
        **settings: Sections and values of the recipe, for example `schedule={"epochs": 3}, batch_size=8`.

    Returns:
        The summary of the finished run.

    Raises:
        Interrupted: after Ctrl-C or SIGTERM; the same call goes on.
        DivergedError: a loss is not finite.
        SettingsError: An unknown key or a wrong value, or a recipe with a `distill` section.
        DetdistillError: the data or the folder cannot be used, or memory or disk do not suffice.
    """
    own: Any = detector if isinstance(detector, nn.Module) else None  # `check_detector` says what it lacks
    if detector is not None and own is None:
        settings["detector"] = detector
    recipe = recipe_from(data_or_recipe, settings)
    if recipe.distill is not None:
        raise SettingsError(
            f"the recipe has a distill section (distill.teacher {recipe.distill.teacher}): use `detdistill distill` "
            "(Python: detdistill.distill), or train without a teacher (distill: null)"
        )
    return _run(recipe, out, detector=own, teacher=None, resume=resume, overwrite=overwrite)


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
    """Train a student with a teacher. The run folder holds the student alone.

    Args:
        data_or_recipe: Dataset (COCO, PASCAL VOC, YOLO or CSV), for a recipe with defaults, or a `Recipe`.
        teacher: What `load_teacher` reads, or several of them; or an object: any `Detector` that passes
            `check_detector`, a `Teacher`, or a function, see `Predict`. Of an object `distill.teacher` is only a name
            in the record. None for the recipe's `distill.teacher`.
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
    for name in () if own_teacher is not None else recipe.distillation.teachers:
        if Path(name).expanduser().resolve().is_relative_to(Path(out).resolve()):
            raise DetdistillError(
                f"the teacher {name} lies in the folder of the run, {out}: name another folder, for the student would "
                "take its place"
            )
    return _run(recipe, out, detector=student, teacher=own_teacher, resume=resume, overwrite=overwrite)


def check(
    data_or_recipe: str | PathLike[str] | Recipe,
    teacher: NamedTeacher | GivenTeacher | None = None,
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
    dataset, validation = open_training_data(recipe.data, recipe.images, masks=has_masks(recipe, student))
    dataset = with_unlabelled(recipe, dataset, validation)
    loaded = recipe_teacher(recipe, dataset, own_teacher)
    return Distilled(recipe, _starting(recipe, dataset, student), loaded).preflight(dataset, validation)


def taught_by(
    data_or_recipe: str | PathLike[str] | Recipe,
    teacher: NamedTeacher | GivenTeacher | None,
    settings: Mapping[str, Any],
) -> tuple[Recipe, GivenTeacher | None]:
    """Return the recipe of a distillation, and the teacher if it is an object.

    Raises:
        SettingsError: An unknown key or a wrong value, or no teacher.
    """
    own = None if teacher is None or isinstance(teacher, str | PathLike | Sequence) else teacher
    if teacher is None:
        recipe = recipe_from(data_or_recipe, settings)
    else:
        section = settings.get("distill", {})
        given = to_values(section) if isinstance(section, Distillation) else dict(section)
        has_name = isinstance(data_or_recipe, Recipe) and data_or_recipe.distill is not None
        if isinstance(teacher, str | PathLike):
            given["teacher"] = str(teacher)
        elif isinstance(teacher, Sequence):
            given["teacher"] = [str(each) for each in teacher]
        elif not has_name:
            is_object = isinstance(teacher, Detector | Teacher)
            given.setdefault("teacher", type(teacher).__name__ if is_object else name_of(teacher))
        recipe = recipe_from(data_or_recipe, {**settings, "distill": given} if given else settings)
    recipe.distillation  # noqa: B018 (refuses a recipe without a teacher)
    return recipe, own


def _run(
    recipe: Recipe,
    out: str | PathLike[str],
    *,
    detector: Detector | None,
    teacher: GivenTeacher | None,
    resume: bool,
    overwrite: bool,
) -> Summary:
    if resume and overwrite:
        raise DetdistillError("--resume continues a run and --overwrite deletes it: give one of them")
    check_processes(recipe.machine)
    run = RunFolder(Path(out).absolute())
    is_first = is_first_process()
    if not overwrite and run.is_finished(recipe):  # perhaps on a disk that cannot be written
        return read_summary(run.summary)
    # Other processes of the same run start at the same time, or are started by this one.
    with run.held() if is_first else nullcontext():
        if is_first:
            recipe = run.prepare(recipe, resume=resume, overwrite=overwrite)
        if run.is_finished(recipe) and not overwrite:
            return read_summary(run.summary)
        is_resumed = run.checkpoint.exists() and not overwrite
        with threads_restored():
            return _train(recipe, run, detector, teacher, is_resumed=is_resumed)


def _train(
    recipe: Recipe, run: RunFolder, own: Detector | None, teacher: GivenTeacher | None, *, is_resumed: bool
) -> Summary:
    started = time.monotonic()
    is_first = is_first_process()
    dataset, validation = open_training_data(
        recipe.data, recipe.images, use_cache=not is_resumed, masks=has_masks(recipe, own)
    )
    dataset = with_unlabelled(recipe, dataset, validation)
    detector = _starting(recipe, dataset, own)
    task: Task
    if recipe.distill is None:
        task = Supervised(detector, channels_last=recipe.machine.channels_last)
    else:
        task = Distilled(recipe, detector, recipe_teacher(recipe, dataset, teacher))
        if is_first:
            for line in task.preflight(dataset, validation).splitlines():
                print_err(line)
    state = read_checkpoint(run.checkpoint, dataset, task.origin().get("teacher")) if is_resumed else None
    if is_first:
        run.forget_after(0 if state is None else state["step"])
    fabric = fabric_of(recipe.machine)
    check_device(recipe, fabric.device, detector)
    launch(fabric)
    with told_errors():
        compare_starts(recipe, dataset, 0 if state is None else state["step"])
        make_ready(task, recipe, fabric.device)
        recipe = _settled(recipe, run, task, dataset, fabric)
        loggers = Loggers(recipe, run.path)
        scores = Scores(run, recipe, task, dataset, validation, loggers)
        loop = Loop(fabric, recipe, task, dataset, run, scores, started)
        if state is not None:
            loop.load(state)
        with loggers:
            loop.run()
        summary = Summary(
            epochs=loop.step // len(loop.batches),
            steps=loop.step,
            AP=scores.best and scores.best[0],
            best_epoch=scores.best and scores.best[1],
            teacher_ap=scores.teacher_ap,
            seconds=round(time.monotonic() - started, 1),
        )
        if is_first:
            write_summary(summary, run.summary)
        loop.show("finished")
        # The others return no sooner than there is what they may read.
        fabric.barrier()
    return summary


def _starting(recipe: Recipe, dataset: DetectionDataset, own: Detector | None) -> Detector:
    torch.manual_seed(derived_seed(recipe.seed, "weights"))
    detector = starting_detector(recipe, dataset.classes, own)
    if recipe.start.batch_norm == "sync" and recipe.images_per_process < recipe.batch_size:
        # timm's knows its own batch norms, which hold an activation; torch's would lose it.
        convert: Callable[[nn.Module], nn.Module] = convert_sync_batchnorm
        convert(detector)
    return detector


def _settled(recipe: Recipe, run: RunFolder, task: Task, dataset: DetectionDataset, fabric: Fabric) -> Recipe:
    """Return a recipe with plain values in the place of `auto`, which the first process chooses for all.

    The values stand in the run's recipe before the first step, so that a resumed run has the same.
    """
    if is_first_process():
        settled = task.chosen(recipe)
        machine = recipe.machine
        if "auto" in (machine.precision, machine.threads):
            batch = first_batch(recipe, dataset, recipe.images_per_process, task.teacher_inputs).to(fabric.device)
            choice = choose(task, batch, recipe, fabric.device)
            note(choice.reason)
            settled = replace(settled, machine=replace(machine, precision=choice.precision, threads=choice.threads))
        if settled != recipe:
            write_recipe(settled, run.recipe)
            recipe = settled
    recipe = fabric.broadcast(recipe)
    task.take(recipe)
    assert recipe.machine.threads != "auto"
    torch.set_num_threads(recipe.machine.threads)
    return recipe
