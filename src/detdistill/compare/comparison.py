"""A comparison from plan to table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from detdistill.compare.cell_runs import Failure, run_all
from detdistill.compare.machine_values import threads_of, with_machine_values
from detdistill.compare.outcome import read_outcome
from detdistill.compare.plan import Plan
from detdistill.compare.summary import write_summary
from detdistill.compare.table import Row, rows_of
from detdistill.compare.teachers import teacher_scores
from detdistill.compare.timing import step_seconds
from detdistill.core.files import write_atomically

TIMES = "step_seconds.json"


@dataclass(frozen=True)
class Comparison:
    """What came out.

    Attributes:
        rows: a row for each method with a finished run, and for each teacher.
        failures: runs that did not come to their end.
    """

    rows: list[Row]
    failures: list[Failure]


def compare(plan: Plan, out: str | Path, *, jobs: int = 1, threads: int | None = None) -> Comparison:
    """Makes the runs of a comparison that are not finished; after each of them, writes tables and page anew.

    Args:
        plan: what is compared.
        out: folder of the comparison; each run has a folder in it.
        jobs: runs at the same time.
        threads: of each run; None for the recipe's, which are measured once for each setting if they are `auto`.

    Raises:
        Stopped: after Ctrl-C or SIGTERM; the same call goes on.
        DetdistillError: a teacher, the data or the folder cannot be used.
    """
    folder = Path(out)
    plan = with_machine_values(plan, folder, jobs=jobs, threads=threads)
    teachers = {
        setting: teacher_scores(recipe, plan.report_on, folder / setting, images=plan.report_images)
        for setting, recipe in plan.settings.items()
    }

    def summarize(times: Mapping[str, Mapping[str, float]]) -> list[Row]:
        outcomes = [outcome for cell in plan.cells() if (outcome := read_outcome(plan, cell, folder)) is not None]
        rows = rows_of(plan, outcomes, teachers, times)
        write_summary(plan, rows, folder)
        return rows

    failures = run_all(plan, folder, jobs=jobs, finished=lambda _: summarize({}))
    return Comparison(summarize({setting: _times(plan, setting, folder) for setting in plan.settings}), failures)


def _times(plan: Plan, setting: str, out: Path) -> dict[str, float]:
    """Of the methods that have a finished run; measured anew where one is missing, for only one sitting compares."""
    finished = {
        cell.method for cell in plan.cells() if cell.setting == setting and read_outcome(plan, cell, out) is not None
    }
    methods = {name: terms for name, terms in plan.methods.items() if name in finished}
    file = out / setting / TIMES
    kept: dict[str, float] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    if set(methods) <= set(kept):
        return kept
    torch.set_num_threads(threads_of(plan.settings[setting]))
    times = step_seconds(plan.settings[setting], methods)
    write_atomically(file, json.dumps(times, indent=1) + "\n")
    return times
