"""What a comparison measures beside its runs, and keeps: the teachers' scores and the times of the methods' steps."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from detdistill.compare.kept_record import read_kept
from detdistill.compare.machine_values import threads_of, with_machine_values
from detdistill.compare.outcome import read_outcome
from detdistill.compare.plan import Plan
from detdistill.compare.teachers import kept_teacher_scores, teacher_scores
from detdistill.compare.timing import step_seconds
from detdistill.core.files import write_atomically

TIMES = "step_seconds.json"


def measure(plan: Plan, out: Path, *, threads: int | None = None) -> None:
    """Score the teachers and time the steps of all methods with a finished run, where that is not kept yet.

    All methods of a setting are timed again where one is missing: only times of one sitting can be compared.

    Args:
        plan: The comparison.
        out: Its folder.
        threads: Threads of torch; None for the recipes'.

    Raises:
        DetdistillError: A teacher or the data cannot be used.
    """
    plan = with_machine_values(plan, out, threads=threads)
    score_teachers(plan, out)
    for setting, recipe in plan.settings.items():
        finished = _finished(plan, setting, out)
        if not finished <= set(kept_times(setting, out)):
            torch.set_num_threads(threads_of(recipe))
            times = step_seconds(recipe, {name: plan.methods[name] for name in plan.methods if name in finished})
            write_atomically(out / setting / TIMES, json.dumps(times, indent=1) + "\n")


def score_teachers(plan: Plan, out: Path) -> None:
    """Score the teachers of all settings, where that is not kept yet.

    Raises:
        DetdistillError: A teacher or the data cannot be used.
    """
    for setting, recipe in plan.settings.items():
        teacher_scores(recipe, plan.report_on, out / setting, images=plan.report_images)


def is_measured(plan: Plan, out: Path) -> bool:
    """Whether `measure` has nothing left to do.

    Raises:
        DetdistillError: A teacher is not there, or damaged.
    """
    return all(
        kept_teacher_scores(recipe, plan.report_on, out / setting) is not None
        and _finished(plan, setting, out) <= set(kept_times(setting, out))
        for setting, recipe in plan.settings.items()
    )


def kept_times(setting: str, out: Path) -> dict[str, float]:
    """Return the seconds of a step by method, as far as they are kept."""
    return read_kept(out / setting / TIMES)


def _finished(plan: Plan, setting: str, out: Path) -> set[str]:
    """The methods of a setting that have a finished run."""
    return {
        cell.method for cell in plan.cells() if cell.setting == setting and read_outcome(plan, cell, out) is not None
    }
