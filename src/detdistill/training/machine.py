"""What a recipe asks of the machine, and an error in the recipe's words where it cannot be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from detdistill.core.distributed import note
from detdistill.core.errors import DetdistillError
from detdistill.detectors.running import chosen_device
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


def device_beside_training(machine: Machine) -> torch.device:
    """Where a run computes what is no training, such as its teacher's score: a GPU, unless there is none to be had."""
    return chosen_device("cpu" if machine.accelerator == "cpu" else None)


NARROWEST = 16
"""Channels. With fewer, torch 2.14's backward pass of a bfloat16, channels-last 1x1 convolution of stride 2 writes
beyond its memory on CPUs: it crashes, or goes on with damaged numbers."""


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
    if device.type == "cpu" and recipe.machine.precision == "bf16" and _is_slow_in_bf16():
        note("this processor has no AMX, without which bf16 is slower than float32: use machine.precision float32")
    if device.type == "cpu" and recipe.machine.precision == "bf16" and recipe.machine.channels_last:
        narrow = [name for name, part in detector.named_modules() if _is_narrow_shortcut(part)]
        if narrow:
            raise DetdistillError(
                f"on CPUs, machine.precision bf16 with channels_last damages memory in convolutions like {narrow[0]} "
                f"(1x1, stride 2, under {NARROWEST} channels): use machine.channels_last false, or a wider backbone"
            )


def _is_slow_in_bf16() -> bool:
    if not hasattr(torch.cpu, "get_capabilities"):  # older torch cannot tell
        return False
    known = torch.cpu.get_capabilities()
    # avx512_bf16 does not suffice: `benchmarks/bf16.py`.
    return known["architecture"] == "x86_64" and not known["amx_bf16"]


def _is_narrow_shortcut(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.kernel_size == (1, 1)
        and max(module.stride) > 1
        and module.in_channels < NARROWEST
    )
