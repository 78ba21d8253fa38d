"""What a recipe asks of the machine, and an error in the recipe's words where it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException

from detdistill.errors import DetdistillError
from detdistill.training.recipe import Machine, Recipe


@contextmanager
def asking_for(machine: Machine) -> Iterator[None]:
    """Tells what a `Trainer` that is made inside cannot have.

    Raises:
        DetdistillError: the accelerator, the number of devices or the strategy is not there.
    """
    try:
        yield
    except (ValueError, MisconfigurationException) as error:
        asked = ", ".join(f"{key} {asdict(machine)[key]}" for key in ("accelerator", "devices", "nodes", "strategy"))
        raise DetdistillError(f"machine: {asked} cannot be had here: {error}") from error


def check_device(recipe: Recipe, device: torch.device) -> None:
    """Raises `DetdistillError` if a run on this device cannot do as the recipe says."""
    if device.type == "cpu" and recipe.machine.precision == "fp16":
        raise DetdistillError("machine.precision fp16 needs a GPU, and this run is on a CPU: use bf16 or float32")
    if device.type == "cpu" and recipe.start.batch_norm == "sync" and recipe.images_per_process < recipe.batch_size:
        raise DetdistillError(
            "start.batch_norm sync needs GPUs, and this run is on CPUs: use train, eval or frozen, or one process"
        )
