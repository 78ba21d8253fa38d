"""What a step of each method costs, measured in turns in one process, so that a busy machine hits all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import islice
from statistics import median

import torch

from detdistill.compare.plan import Terms
from detdistill.core.structures import single_process
from detdistill.data.loading import Batch, training_loader
from detdistill.teachers.teacher import Teacher
from detdistill.training.distilled import Distilled, recipe_teacher
from detdistill.training.machine import device_beside_training
from detdistill.training.materials import has_masks, open_training_data, starting_detector
from detdistill.training.optim import build_optimizer
from detdistill.training.recipe import Recipe
from detdistill.training.task import Supervised, Task
from detdistill.training.teacher_reading import inputs_of

BATCHES = 4
ROUNDS = 5
HALF: dict[str, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}
GIVEN = 1.0
"""Weight of every term: to find weights takes time in a few steps of a run only."""


def step_seconds(
    recipe: Recipe, methods: Mapping[str, Terms], *, batches: int = BATCHES, rounds: int = ROUNDS
) -> dict[str, float]:
    """The median time of an optimiser's step with each method, batches in memory.

    Args:
        recipe: student, teacher and data.
        methods: terms by name; none for a step without the teacher.
        batches: number of different batches.
        rounds: times that each method sees each batch; one more before warms up.
    """
    dataset, _ = open_training_data(replace(recipe.data, val=None), recipe.images, masks=has_masks(recipe))
    teacher = recipe_teacher(recipe, dataset)
    loader = training_loader(
        dataset,
        recipe.images,
        batch_size=recipe.images_per_process,
        seed=recipe.seed,
        teacher=inputs_of(teacher, recipe),
    )
    loaded = list(islice(loader, batches))
    device = device_beside_training(recipe.machine)
    # A few batches in turns would always be remembered, those of a run only from the second epoch on.
    recipe = replace(recipe, distill=replace(recipe.distillation, memory=0))
    # Nor does it matter to a step's time which weights it finds; reading them would tell of them once more.
    recipe = replace(recipe, start=replace(recipe.start, backbone=None, source=None))
    works = {name: _step(recipe, terms, dataset.classes, teacher, device) for name, terms in methods.items()}
    taken: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(rounds + 1):
        for batch in loaded:
            for name, work in works.items():
                start = time.perf_counter()
                work(batch.to(device))
                if device.type == "cuda":
                    torch.cuda.synchronize(device)
                if number:
                    taken[name].append(time.perf_counter() - start)
    return {name: median(times) for name, times in taken.items()}


def _step(
    recipe: Recipe, terms: Terms, classes: tuple[str, ...], teacher: Teacher, device: torch.device
) -> Callable[[Batch], None]:
    student = starting_detector(recipe, classes)
    task: Task = Supervised(student, channels_last=recipe.machine.channels_last)
    if terms:
        given = {name: {**options, "weight": GIVEN} for name, options in terms.items()}
        task = Distilled(replace(recipe, distill=replace(recipe.distillation, terms=given)), student, teacher)
    task.to(device).train()
    optimizer = build_optimizer(task, student.backbone_module, recipe.optimization)

    def step(batch: Batch) -> None:
        with torch.autocast(device.type, HALF.get(recipe.machine.precision), enabled=recipe.machine.precision in HALF):
            losses = task(batch.images, batch.targets, single_process)
            loss = torch.stack(tuple(losses.values())).sum()
        torch.autograd.backward(loss)
        optimizer.step()
        optimizer.zero_grad()

    return step
