"""All runs of a comparison, each in a process of its own: here or on a cluster."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

from detdistill.compare.outcome import Outcome, read_outcome
from detdistill.compare.plan import Cell, Plan
from detdistill.core.console import print_err
from detdistill.core.errors import DetdistillError

PLAN, LOGS = "plan.yaml", "logs"
LAST_LINES = 3
"""Lines of a failed run's log that are reported."""


@dataclass(frozen=True)
class Failure:
    """A run that failed.

    Attributes:
        cell: The run.
        log: File with all its output.
        message: Last lines of the output.
    """

    cell: Cell
    log: Path
    message: str


class Stopped(DetdistillError):  # noqa: N818, nothing went wrong
    """A comparison that was interrupted. The same call resumes it.

    Attributes:
        exit_status: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, signal_number: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + signal_number


class Work(Protocol):
    """A process or job at work."""

    @property
    def log(self) -> Path:
        """File with its output."""

    def has_ended(self) -> bool:
        """Whether it has ended, well or not."""

    def complaint(self) -> str:
        """Return why it failed, once it has ended."""


class Pool(Protocol):
    """Where runs are computed: processes of this machine, or jobs of a cluster.

    Attributes:
        places: Runs at the same time.
        pause: Seconds between two looks at the runs.
        stopping: Message after Ctrl-C or SIGTERM.
    """

    places: int
    pause: float
    stopping: str

    @property
    def stopped(self) -> str:
        """Message when the pool has been left."""

    def start(self, number: int, cell: Cell) -> Work:
        """Start a run, given the place of its cell in the plan."""

    def leave(self) -> None:
        """Part from the runs that are at work, when the comparison ends before them."""


def run_all(
    plan: Plan,
    out: Path,
    pool: Pool,
    *,
    cells: Sequence[Cell] | None = None,
    finished: Callable[[Outcome], object] = lambda _: None,
) -> list[Failure]:
    """Compute all runs that are not finished. A failed run does not stop the others.

    Args:
        plan: The comparison.
        out: Its folder; an existing comparison is resumed.
        pool: Where the runs are computed.
        cells: The runs; None for all of the plan.
        finished: Called with the outcome of each run that finishes meanwhile.

    Returns:
        The runs that failed.

    Raises:
        Stopped: After Ctrl-C or SIGTERM, once the pool has been left.
        DetdistillError: The folder cannot be used.
    """
    numbers = {cell: number for number, cell in enumerate(plan.cells())}
    wanted = list(numbers) if cells is None else list(cells)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetdistillError(f"{out} cannot be used: {error.strerror}") from error
    plan.write(out / PLAN)
    waiting = [cell for cell in wanted if read_outcome(plan, cell, out) is None]
    if len(waiting) < len(wanted):
        say(f"{len(wanted) - len(waiting)} of {len(wanted)} runs are finished already")
    begun = len(wanted) - len(waiting)
    at_work: dict[Cell, tuple[Work, float]] = {}
    failures = []
    with stoppable(pool) as check:
        while waiting or at_work:
            check()
            if waiting and len(at_work) < pool.places:
                cell = waiting.pop(0)
                begun += 1
                say(f"run {begun} of {len(wanted)}: {cell}")
                at_work[cell] = (pool.start(numbers[cell], cell), time.monotonic())
                continue
            for cell, (work, start) in list(at_work.items()):
                if work.has_ended():
                    del at_work[cell]
                    result = _result(plan, cell, out, work, time.monotonic() - start)
                    if isinstance(result, Failure):
                        failures.append(result)
                    else:
                        finished(result)
            time.sleep(pool.pause)
    return failures


@contextmanager
def stoppable(pool: Pool) -> Iterator[Callable[[], None]]:
    """Give a function that raises `Stopped` after Ctrl-C or SIGTERM, and leave the pool however the block ends.

    A second signal acts as usual.
    """
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        say(pool.stopping)
        for each, handler in before.items():
            signal.signal(each, handler)

    def check() -> None:
        if caught:
            raise Stopped(caught[0], pool.stopped)

    try:
        for number in before:
            signal.signal(number, note)
        yield check
    except DetdistillError:
        check()  # Ctrl-C ends a command of the cluster, too, such as sbatch
        raise
    finally:
        pool.leave()
        for number, handler in before.items():
            signal.signal(number, handler)


def last_lines(log: Path, start: int = 0) -> str:
    """Return the last lines of a log from byte `start` on; empty if there are none."""
    if not log.exists():
        return ""
    lines = log.read_bytes()[start:].decode(errors="replace").strip().splitlines()
    return "\n".join(lines[-LAST_LINES:])


def say(text: str) -> None:
    """Print a line of progress."""
    print_err(text)


def _result(plan: Plan, cell: Cell, out: Path, work: Work, seconds: float) -> Failure | Outcome:
    outcome = read_outcome(plan, cell, out)
    if outcome is None:
        failure = Failure(cell, work.log, work.complaint())
        say(f"FAILED: {cell}: {failure.message}")
        return failure
    ap = outcome.scores["AP"]
    found = "no AP" if ap is None else f"AP {100 * ap:.1f}"
    say(f"finished: {cell}: {found} on {plan.report_on}, {seconds / 60:.1f} min")
    return outcome
