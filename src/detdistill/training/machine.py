"""Devices, processes and precision of a recipe, and errors in the recipe's words where they are not available."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import timedelta

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn
from torch.distributed import DistBackendError, DistNetworkError, DistStoreError

from detdistill.core.distributed import note
from detdistill.core.errors import DetdistillError, first_line
from detdistill.core.quiet import quiet
from detdistill.detectors.running import chosen_device
from detdistill.training.bf16_faults import NARROWEST, has_bf16_instructions, narrow_shortcuts
from detdistill.training.recipe import Machine, Recipe

WAITING = timedelta(minutes=30)
"""How long a process waits for the others: the first one may read data and score a teacher meanwhile."""


def fabric_of(machine: Machine) -> Fabric:
    """Return Fabric for the devices of a recipe, not launched yet.

    Raises:
        DetdistillError: The accelerator or the number of devices is not there.
    """
    several = machine.devices * machine.nodes > 1 or machine.strategy == "ddp"
    # It tells of devices and gives advice that does not fit here.
    with quiet("lightning_fabric", warnings_from="lightning_fabric"):
        try:
            return Fabric(
                accelerator=machine.accelerator,
                devices=machine.devices,
                num_nodes=machine.nodes,
                strategy=DDPStrategy(timeout=WAITING) if several else "auto",
            )
        except (ValueError, MisconfigurationException) as error:
            asked = ", ".join(f"{key} {asdict(machine)[key]}" for key in ("accelerator", "devices", "nodes"))
            raise DetdistillError(f"machine: {asked} is not available here: {error}") from error


def launch(fabric: Fabric) -> None:
    """Meet the other processes, which are started here, with the command of this one, unless torchrun or SLURM has.

    Raises:
        DetdistillError: They did not come.
    """
    with quiet("lightning_fabric", warnings_from="lightning_fabric"), told_errors():
        fabric.launch()


def check_processes(machine: Machine) -> None:
    """Compare the number of processes that torchrun or SLURM has started with the recipe's.

    Raises:
        DetdistillError: They differ: each process would train the whole run.
    """
    started = None
    if TorchElasticEnvironment.detect():
        started, starter = int(os.environ["WORLD_SIZE"]), "torchrun"
    elif "SLURM_STEP_NUM_TASKS" in os.environ:
        started, starter = int(os.environ["SLURM_STEP_NUM_TASKS"]), "srun"
    if started is not None and started != machine.devices * machine.nodes:
        raise DetdistillError(
            f"{starter} has started {started} processes, and the recipe has machine.devices {machine.devices} * "
            f"machine.nodes {machine.nodes}: set machine.devices to the processes on each machine (--machine.devices), "
            "and machine.nodes to the number of machines"
        )


def precision_of(machine: Machine, device: torch.device) -> Precision:
    """Return Fabric's handling of a recipe's precision; `auto` that was not resolved is float32."""
    if machine.precision in ("float32", "auto"):
        return Precision()
    return MixedPrecision("bf16-mixed" if machine.precision == "bf16" else "16-mixed", device.type)


@contextmanager
def threads_restored() -> Iterator[None]:
    """Afterwards torch computes with as many threads as before."""
    threads = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def told_errors() -> Iterator[None]:
    """Turn what torch raises for want of memory or of other processes into our errors.

    Raises:
        DetdistillError: Memory does not suffice, or another process has ended; the message says what to do.
    """
    try:
        yield
    except RuntimeError as error:
        told = _told(error)
        if told is None:
            raise
        raise DetdistillError(told) from error


def _told(error: RuntimeError) -> str | None:
    text = str(error)
    line = first_line(error)
    if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in text:
        return (
            f"out of memory ({line}). Lower, in this order: accumulate higher (parts of a batch, the same result), "
            "machine.precision bf16, images.short_side and long_side (or letterbox), batch_size"
        )
    if isinstance(error, DistBackendError | DistNetworkError | DistStoreError) or "gloo" in text:
        return (
            "another process of this run has ended or does not answer: its own message says why; without one "
            "it was killed, perhaps because memory did not suffice. The same command goes on from the last checkpoint"
        )
    return None


def device_beside_training(machine: Machine) -> torch.device:
    """Where a run computes what is no training, such as its teacher's score: a GPU, unless there is none to be had."""
    return chosen_device("cpu" if machine.accelerator == "cpu" else None)


def check_device(recipe: Recipe, device: torch.device, detector: nn.Module) -> None:
    """Tells what will be slow on this device.

    Raises:
        DetdistillError: a run on this device cannot do as the recipe says with this detector.
    """
    if device.type == "cpu" and recipe.machine.precision == "fp16":
        raise DetdistillError("machine.precision fp16 needs a GPU, and this run is on a CPU: use bf16 or float32")
    if device.type == "cpu" and recipe.start.batch_norm == "sync" and recipe.images_per_process < recipe.batch_size:
        raise DetdistillError(
            "start.batch_norm sync needs GPUs, and this run is on CPUs: use train, eval or frozen, or one process"
        )
    if device.type == "cpu" and recipe.machine.precision == "bf16" and not has_bf16_instructions():
        note("this processor has no bf16 instructions: float32 is faster (machine.precision float32, or auto)")
    if device.type == "cpu" and recipe.machine.precision == "bf16" and recipe.machine.channels_last:
        narrow = narrow_shortcuts(detector)
        if narrow:
            raise DetdistillError(
                f"on CPUs, machine.precision bf16 with channels_last damages memory in convolutions like {narrow[0]} "
                f"(1x1, stride 2, under {NARROWEST} channels): use machine.channels_last false, or a wider backbone"
            )
