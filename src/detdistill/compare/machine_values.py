"""Precision and number of threads of a comparison's runs: chosen once for each setting, the same in all of its runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from filelock import FileLock

from detdistill.compare.kept_record import read_kept
from detdistill.compare.plan import Plan, Terms
from detdistill.core.annotations import DetectionDataset
from detdistill.core.distributed import note
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.files import write_atomically
from detdistill.core.seeds import derived_seed
from detdistill.core.settings import from_values
from detdistill.detectors.base import Detector
from detdistill.training.distilled import Distilled, recipe_teacher
from detdistill.training.freezing import make_ready
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import first_batch, has_masks, open_training_data, starting_detector
from detdistill.training.probe import Choice, choose
from detdistill.training.recipe import Machine, Recipe
from detdistill.training.task import Supervised, Task

FILE = "machine.json"
"""In the folder of a setting: what its runs are computed with."""


def with_machine_values(
    plan: Plan, out: Path, *, jobs: int = 1, threads: int | None = None, setting: str | None = None
) -> Plan:
    """Return a plan with plain values in the place of `auto` in `machine.precision` and `machine.threads`.

    What was chosen is kept in the comparison's folder. A later call returns the same.

    Args:
        plan: The comparison.
        out: Its folder.
        jobs: Runs at the same time. They share the processors: above 1, `auto` is one thread.
        threads: Threads of each run, instead of the recipes'.
        setting: The only setting that counts; the others stay as they are.

    Raises:
        SettingsError: The plan asks for other values than its runs were begun with, or the kept file is damaged.
        DetdistillError: The data, the teacher or the folder cannot be used.
    """
    if threads is not None:
        plan = replace(plan, settings={name: _pinned(recipe, threads) for name, recipe in plan.settings.items()})
    wanted = plan.settings if setting is None else [setting]
    settled = {name: _settled(plan, name, out / name, jobs) for name in wanted}
    return replace(plan, settings={**plan.settings, **settled})


def threads_of(recipe: Recipe) -> int:
    """Return the number of threads of a recipe of `with_machine_values`."""
    assert recipe.machine.threads != "auto"
    return recipe.machine.threads


def _settled(plan: Plan, setting: str, folder: Path, jobs: int) -> Recipe:
    recipe = plan.settings[setting]
    file = folder / FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / f".{FILE}.lock").acquire()
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be used: {error.strerror}") from error
    with lock:  # the runs of a cluster may start at the same time
        kept = _read(file) if file.exists() else None
        settled = _chosen(plan, setting, jobs) if kept is None else _agreed(recipe, kept, folder)
        machine = settled.machine
        if kept is None or (machine.precision, machine.threads) != (kept.precision, kept.threads):
            values = {"precision": machine.precision, "threads": machine.threads}
            write_atomically(file, json.dumps(values, indent=1) + "\n")
    return settled


def _agreed(recipe: Recipe, kept: Machine, folder: Path) -> Recipe:
    """The recipe with the kept values in the place of `auto`."""
    own = recipe.machine
    for key, asked, before in (
        ("machine.precision", own.precision, kept.precision),
        ("machine.threads", own.threads, kept.threads),
    ):
        if asked not in ("auto", before) and any(folder.glob("*/*/recipe.yaml")):
            raise SettingsError(
                f"{key} is {asked}, and runs were begun with {before}; expected the same for all runs of a setting: "
                "leave it out, or name another folder",
                str(folder),
            )
    precision = kept.precision if own.precision == "auto" else own.precision
    threads = kept.threads if own.threads == "auto" else own.threads
    return replace(recipe, machine=replace(own, precision=precision, threads=threads))


def _chosen(plan: Plan, setting: str, jobs: int) -> Recipe:
    """The recipe with measured values in the place of `auto`."""
    recipe = plan.settings[setting]
    if recipe.machine.threads == "auto" and jobs > 1:
        recipe = _pinned(recipe, 1)
    machine = recipe.machine
    if "auto" not in (machine.precision, machine.threads):
        return recipe
    choice = _measured(plan, recipe)
    note(f"{setting}: {choice.reason}")
    return replace(recipe, machine=replace(machine, precision=choice.precision, threads=choice.threads))


def _measured(plan: Plan, recipe: Recipe) -> Choice:
    """The choice for a student that learns by the terms of all methods: what is unsafe for one of them is for all."""
    dataset, _ = open_training_data(replace(recipe.data, val=None), recipe.images, masks=has_masks(recipe))
    task = _task(plan.methods, recipe, dataset)
    device = device_beside_training(recipe.machine)
    make_ready(task, recipe, device)
    batch = first_batch(recipe, dataset, recipe.images_per_process, task.teacher_inputs).to(device)
    return choose(task, batch, recipe, device)


def _task(methods: Mapping[str, Terms], recipe: Recipe, dataset: DetectionDataset) -> Task:
    """The task of all methods that can be used: the runs of the others fail, and say why."""
    try:
        return _distilled(methods.values(), recipe, dataset)
    except DetdistillError:
        usable = [terms for terms in methods.values() if terms and _is_usable(terms, recipe, dataset)]
    if usable:
        return _distilled(usable, recipe, dataset)
    return Supervised(_student(recipe, dataset.classes), channels_last=recipe.machine.channels_last)


def _is_usable(terms: Terms, recipe: Recipe, dataset: DetectionDataset) -> bool:
    try:
        _distilled([terms], recipe, dataset)
    except DetdistillError:
        return False
    return True


def _distilled(methods: Iterable[Terms], recipe: Recipe, dataset: DetectionDataset) -> Distilled:
    terms = {name: options for method in methods for name, options in method.items()}
    taught = replace(recipe, distill=replace(recipe.distillation, terms=terms))
    return Distilled(taught, _student(recipe, dataset.classes), recipe_teacher(taught, dataset))


def _student(recipe: Recipe, classes: Sequence[str]) -> Detector:
    torch.manual_seed(derived_seed(recipe.seed, "weights"))
    return starting_detector(recipe, classes)


def _pinned(recipe: Recipe, threads: int) -> Recipe:
    return replace(recipe, machine=replace(recipe.machine, threads=threads))


def _read(file: Path) -> Machine:
    try:
        kept = from_values(Machine, read_kept(file), key="machine")
    except DetdistillError as error:
        raise SettingsError(f"damaged ({error}): remove it, and the values are chosen again", str(file)) from error
    if "auto" in (kept.precision, kept.threads):
        raise SettingsError("damaged (a value is missing): remove it, and the values are chosen again", str(file))
    return kept
