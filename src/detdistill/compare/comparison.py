"""A comparison from plan to table."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from detdistill.compare.cell_runs import Failure, Pool, Work, run_all, say, stoppable
from detdistill.compare.cluster import Cluster, ClusterPool
from detdistill.compare.local_pool import LocalPool
from detdistill.compare.machine_values import with_machine_values
from detdistill.compare.measuring import is_measured, kept_times, measure, score_teachers
from detdistill.compare.outcome import read_outcome
from detdistill.compare.plan import Plan
from detdistill.compare.summary import write_summary
from detdistill.compare.table import Row, rows_of
from detdistill.compare.teachers import kept_teacher_scores
from detdistill.core.errors import DetdistillError, SettingsError

LOCK = ".lock"
"""File in the comparison's folder that the process holds which computes it."""
PATIENCE = 10.0
"""Seconds for the children of a killed comparison to notice that, and let go of the lock."""


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison.

    Attributes:
        rows: A row for each method with a finished run, and for each teacher.
        failures: Runs that failed.
    """

    rows: list[Row]
    failures: list[Failure]


def compare(
    plan: Plan, out: str | Path, *, jobs: int = 1, threads: int | None = None, cluster: Cluster | None = None
) -> Comparison:
    """Compute the runs of a comparison that are not finished, and write tables and page after each of them.

    The runs are processes of this machine, which end with this one; or jobs of a cluster, which do not: the same call
    attaches to the jobs that are still in the queue.

    Args:
        plan: What is compared.
        out: Folder of the comparison; each run has a folder in it.
        jobs: Runs at the same time on this machine.
        threads: Threads of each run; None for the recipe's. If they are `auto`, they are measured once for each
            setting, and 1 with several jobs.
        cluster: Where the runs are jobs of a cluster; None for this machine.

    Raises:
        Stopped: After Ctrl-C or SIGTERM; the same call resumes the comparison.
        SettingsError: An argument cannot be used.
        DetdistillError: A teacher, the data or the folder cannot be used, or the cluster refuses a job.
    """
    if jobs < 1:
        raise SettingsError(f"jobs is {jobs}; expected at least 1", "compare")
    if threads is not None and threads < 1:
        raise SettingsError(f"threads is {threads}; expected at least 1", "compare")
    if cluster is not None and jobs > 1:
        raise SettingsError(
            f"jobs is {jobs}, and the runs are jobs of a cluster, which decides how many run at the same time: "
            "leave out jobs",
            "compare",
        )
    folder = Path(out)
    _kept_scores(plan, folder)  # a teacher that is not there is an error before anything is written or submitted
    with _held(folder):
        pool: Pool
        if cluster is None:
            plan = with_machine_values(plan, folder, jobs=jobs, threads=threads)
            score_teachers(plan, folder)
            pool = LocalPool(plan, folder, jobs=jobs)
        else:
            pool = ClusterPool(plan, folder, cluster, threads=threads)
        failures = run_all(plan, folder, pool, finished=lambda _: _summarize(plan, folder))
        if not isinstance(pool, ClusterPool):
            measure(plan, folder)
        elif not is_measured(plan, folder):
            say("measuring: teachers and steps")
            work = pool.measure()
            _wait_for(work, pool)
            if not is_measured(plan, folder):
                raise DetdistillError(f"measuring failed: {work.complaint()}\nall of it: {work.log}")
        return Comparison(_summarize(plan, folder), failures)


def _summarize(plan: Plan, out: Path) -> list[Row]:
    outcomes = [outcome for cell in plan.cells() if (outcome := read_outcome(plan, cell, out)) is not None]
    times = {setting: kept_times(setting, out) for setting in plan.settings}
    rows = rows_of(plan, outcomes, _kept_scores(plan, out), times)
    write_summary(plan, rows, out)
    return rows


def _kept_scores(plan: Plan, out: Path) -> dict[str, dict[str, Any]]:
    """The teachers' scores by setting, as far as they are kept."""
    kept = {
        setting: kept_teacher_scores(recipe, plan.report_on, out / setting) for setting, recipe in plan.settings.items()
    }
    return {setting: scores for setting, scores in kept.items() if scores}


def _wait_for(work: Work, pool: Pool) -> None:
    with stoppable(pool) as check:
        while not work.has_ended():
            check()
            time.sleep(pool.pause)


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Keep other processes from computing the same comparison, and remove what a killed one was writing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK).acquire(timeout=PATIENCE)
        for leftover in (*folder.glob(".*.tmp"), *folder.glob("*/.*.tmp")):
            leftover.unlink()
    except Timeout as error:
        raise DetdistillError(
            f"another process is computing the comparison in {folder}: wait until it ends, or name another folder"
        ) from error
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be used: {error.strerror}") from error
    with lock:
        yield
