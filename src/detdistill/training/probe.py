"""Precision and number of threads of a run, chosen by measuring a few training steps.

Which is faster depends on the processor, on the detector and on what else the machine does: only a measurement tells.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from detdistill.core.parallel import usable_processors
from detdistill.data.loading import Batch
from detdistill.training.bf16_faults import fault, has_bf16_instructions, narrow_shortcuts
from detdistill.training.recipe import Machine, Recipe
from detdistill.training.trial_steps import SLOW, Candidate, Plain, Steps, Trials, in_short

GAIN = 1.15
"""How many times as fast bf16, or more threads, must be."""
LOSS_CHANGE = 0.01
"""Largest difference of the loss in bf16, relative to that in float32."""


@dataclass(frozen=True)
class Choice:
    """What a run is computed with.

    Attributes:
        precision: Of the network.
        threads: Of each training process.
        reason: One line for the user, with the measured times.
    """

    precision: Plain
    threads: int
    reason: str


def choose(task: nn.Module, batch: Batch, recipe: Recipe, device: torch.device) -> Choice:
    """Choose what is `auto` in a recipe's `machine.precision` and `machine.threads`.

    Only a copy of the task is run: its weights, buffers and other state, random states, the number of threads and
    autocast are as before. Whatever fails in the measurement, float32 is chosen.

    Args:
        task: What is trained, on `device` and in the modes in which it is trained. `task(images, targets, reduce_sum)`
            returns the named terms of the loss.
        batch: Of the run, on `device`.
        recipe: Of the run.
        device: Where it is trained.
    """
    machine = recipe.machine
    if machine.precision != "auto" and machine.threads != "auto":
        return Choice(machine.precision, machine.threads, "precision and threads are those of the recipe")
    if device.type != "cpu":
        return _beside_cpu(machine, device)
    obstacle = _known_obstacle(task)
    if machine.precision == "fp16":  # refused on CPUs, whatever the number of threads
        return Choice("fp16", 1, "fp16 needs a GPU")
    threads = thread_counts(_share(machine)) if machine.threads == "auto" else [machine.threads]
    with _restored():
        try:
            return _measured(Steps(task, batch, recipe), machine, threads, obstacle)
        except Exception as error:  # a detector may raise anything
            return _safe(machine, f"the measurement failed ({in_short(error)})")


def thread_counts(processors: int) -> list[int]:
    """Return the numbers of threads to try: 1, all processors, and halves between, in ascending order."""
    counts = {1}
    while processors > 1:
        counts.add(processors)
        processors //= 2
    return sorted(counts)


def fastest(seconds: Mapping[Candidate, float], losses: Mapping[Candidate, float]) -> Candidate:
    """Return the candidate to take.

    More threads, and bf16, must be at least 1.15 times as fast, and the loss in bf16 may differ by less than 1 %.

    Args:
        seconds: Of a step, by candidate.
        losses: Of the same batch, by candidate.
    """
    best: dict[str, Candidate] = {}
    for candidate in sorted(seconds, key=lambda each: each.threads):
        present = best.get(candidate.precision)
        if present is None or _is_faster(seconds[candidate], seconds[present]):
            best[candidate.precision] = candidate
    plain, half = best.get("float32"), best.get("bf16")
    if plain is None or half is None:
        return next(iter(best.values()))
    is_close = _is_close(losses[half], losses[plain])
    return half if is_close and _is_faster(seconds[half], seconds[plain]) else plain


def _is_close(loss: float, in_float32: float) -> bool:
    return abs(loss - in_float32) < LOSS_CHANGE * abs(in_float32)  # not where one of them is NaN


def _is_faster(seconds: float, others: float) -> bool:
    return others >= GAIN * seconds


def _beside_cpu(machine: Machine, device: torch.device) -> Choice:
    """The choice on a GPU, where nothing need be measured."""
    threads = min(torch.get_num_threads(), _share(machine)) if machine.threads == "auto" else machine.threads
    if machine.precision != "auto":
        return Choice(machine.precision, threads, f"{threads} threads beside the {device.type} device")
    if device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return Choice("bf16", threads, "bf16, which this GPU computes in")
    return Choice("float32", threads, f"float32, for this {device.type} device does not compute in bf16")


def _share(machine: Machine) -> int:
    """Processors for each training process."""
    # torchrun tells how many processes share the machine; without it they are started later.
    processes = 1 if "LOCAL_WORLD_SIZE" in os.environ else machine.devices
    return max(usable_processors() // processes, 1)


def _known_obstacle(task: nn.Module) -> str | None:
    """Why bf16 is not tried; None if nothing is known against it before a step."""
    if not has_bf16_instructions():
        return "this processor has no bf16 instructions"
    narrow = narrow_shortcuts(task)
    return f"bf16 damages memory in convolutions like {narrow[0]}" if narrow else None


@contextmanager
def _restored() -> Iterator[None]:
    """Afterwards the number of threads and the random states are as before."""
    threads = torch.get_num_threads()
    in_python, in_numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 (a detector may draw from it)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        random.setstate(in_python)
        np.random.set_state(in_numpy)  # noqa: NPY002
        torch.set_num_threads(threads)


def _safe(machine: Machine, reason: str) -> Choice:
    precision: Plain = "float32" if machine.precision == "auto" else machine.precision
    threads = 1 if machine.threads == "auto" else machine.threads
    return Choice(precision, threads, f"{Candidate(precision, threads)}: {reason}")


def _measured(steps: Steps, machine: Machine, threads: Sequence[int], obstacle: str | None) -> Choice:
    """Choose by measured steps.

    Args:
        steps: Steps of the task.
        machine: What the recipe asks for.
        threads: Numbers to try, in ascending order.
        obstacle: Why bf16 is not run; None if it may be.
    """
    # bf16 that the recipe asks for is measured in float32 where it takes too long.
    precision: Plain = "bf16" if machine.precision == "bf16" and obstacle is None else "float32"
    is_open = machine.precision == "auto"
    if len(threads) == 1 and (not is_open or obstacle is not None):
        return _safe(machine, "there is nothing to compare" + _without_bf16(is_open, obstacle))
    # The extremes first: time may not suffice for what lies between.
    order = dict.fromkeys((threads[-1], threads[0], *reversed(threads)))
    trials = Trials(steps)
    trials.begin([Candidate(precision, number) for number in order])
    if not trials.first or trials.is_slow:
        return _safe(machine, f"one image takes over {SLOW:g} s, too long for a measurement")
    if is_open and obstacle is None:
        obstacle = fault(trials.convolutions, steps.canvas, steps.smallest)
        if obstacle is None:
            trials.begin([Candidate("bf16", each.threads) for each in trials.first], may_fail=True)
    trials.repeat()
    seconds, losses = trials.seconds(), trials.losses()
    best = fastest(seconds, losses)
    if is_open and obstacle is None:
        obstacle = trials.failure or _other_loss(losses, best)
    chosen = Candidate(best.precision if machine.precision == "auto" else machine.precision, best.threads)
    times = [f"{seconds[each]:.3g} s in {each}" for each in sorted(seconds, key=_place)]
    times += [f"much longer in {each}" for each in trials.too_slow]
    images = f"{trials.images} image{'s' if trials.images > 1 else ''}"
    reason = f"{chosen}: a step of {images} takes {', '.join(times)}{_without_bf16(is_open, obstacle)}"
    return Choice(chosen.precision, chosen.threads, reason)


def _place(candidate: Candidate) -> tuple[bool, int]:
    return candidate.precision != "float32", candidate.threads


def _without_bf16(is_open: bool, obstacle: str | None) -> str:
    return f"; no bf16: {obstacle}" if is_open and obstacle is not None else ""


def _other_loss(losses: Mapping[Candidate, float], chosen: Candidate) -> str | None:
    half = losses.get(Candidate("bf16", chosen.threads))
    if chosen.precision == "bf16" or half is None or _is_close(half, losses[chosen]):
        return None
    return f"the loss of the same images is {half:.4g}, in float32 {losses[chosen]:.4g}"
