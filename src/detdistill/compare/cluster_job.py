"""What the jobs of a comparison do on a cluster. Their objects are pickled by submitit."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from detdistill.compare.cell_runs import PLAN
from detdistill.compare.measuring import measure
from detdistill.compare.outcome import run_cell
from detdistill.compare.plan import read_plan
from detdistill.training.interruption import Interrupted

if TYPE_CHECKING:
    from submitit.helpers import DelayedSubmission

Handler = Callable[[int, FrameType | None], object]


@dataclass(frozen=True)
class CellJob:
    """One run of a comparison.

    Attributes:
        out: Folder of the comparison, on a file system that all machines share.
        number: Place of the cell in the plan.
        threads: Threads of the run; None for the recipe's.
    """

    out: Path
    number: int
    threads: int | None

    def __call__(self) -> None:
        """Compute the run, or resume it."""
        plan = read_plan(self.out / PLAN)
        with _saved_before_requeue():
            run_cell(plan, plan.cell(self.number), self.out, threads=self.threads)

    def checkpoint(self) -> DelayedSubmission:
        """Return what is submitted when the job is queued again: the same, which resumes the run."""
        return _again(self)


@dataclass(frozen=True)
class MeasuringJob:
    """The measurements beside the runs: the teachers' scores and the methods' times.

    Attributes:
        out: Folder of the comparison, on a file system that all machines share.
        threads: Threads of the measurements; None for the recipes'.
    """

    out: Path
    threads: int | None

    def __call__(self) -> None:
        """Measure what is not kept yet."""
        measure(read_plan(self.out / PLAN), self.out, threads=self.threads)

    def checkpoint(self) -> DelayedSubmission:
        """Return what is submitted when the job is queued again: the same."""
        return _again(self)


def _again(job: Callable[[], None]) -> DelayedSubmission:
    from submitit.helpers import DelayedSubmission

    return DelayedSubmission(job)


@contextmanager
def _saved_before_requeue() -> Iterator[None]:
    """Save the run before submitit queues the job again.

    submitit queues a job again in its handler of SIGUSR2, which cannot wait until the training step is finished. So
    SIGUSR2 asks the training to save and stop, as SIGTERM does, and submitit's handler is called afterwards. Outside
    of training there is nothing to save, and it is called at once.

    SIGTERM alone, from `scancel` or a preemption, saves and ends the job without a result: Slurm knows whether it
    queues the job again.
    """
    process = os.getpid()
    requeue, idle = signal.getsignal(signal.SIGUSR2), signal.getsignal(signal.SIGTERM)
    if not callable(requeue):  # submitit's debug executor handles no signals
        yield
        return
    asked = False

    def save(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if os.getpid() != process:  # a process that loads images inherits the handler, and the signal may reach it
            return
        if signal.getsignal(signal.SIGTERM) == idle:
            requeue(number, frame)
        elif not asked:
            asked = True
            signal.raise_signal(signal.SIGTERM)

    signal.signal(signal.SIGUSR2, save)
    try:
        yield
    except Interrupted as stop:
        if asked:
            requeue(signal.SIGUSR2, None)  # does not return in the job's first process
        raise SystemExit(stop.exit_status) from stop
    finally:
        signal.signal(signal.SIGUSR2, requeue)
