"""All runs of a comparison, each in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import torch

from detdistill.compare.machine_values import threads_of
from detdistill.compare.outcome import Outcome, read_outcome
from detdistill.compare.plan import Cell, Plan
from detdistill.core.errors import DetdistillError
from detdistill.training.recipe import Machine

PLAN, LOGS = "plan.yaml", "logs"
LISTENING = 0.2
"""Seconds between two looks at the processes."""
LAST_LINES = 3
"""Of a failed run's log, in the report."""


@dataclass(frozen=True)
class Failure:
    """A run that did not come to its end.

    Attributes:
        cell: the run.
        log: file with all it said.
        message: the last of it.
    """

    cell: Cell
    log: Path
    message: str


@dataclass(frozen=True)
class _Work:
    """A run that is being made: its process, since when, and its place among the jobs."""

    process: subprocess.Popen[bytes]
    start: float
    place: int


class Stopped(DetdistillError):  # noqa: N818, nothing went wrong
    """A comparison that was interrupted; its runs are saved.

    Attributes:
        exit_status: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__("stopped; finished runs are kept, and the same command goes on with the others")
        self.exit_status = 128 + signal_number


def run_all(
    plan: Plan,
    out: Path,
    *,
    jobs: int = 1,
    cells: Sequence[Cell] | None = None,
    finished: Callable[[Outcome], object] = lambda _: None,
) -> list[Failure]:
    """Makes all runs that are not finished. A failed one does not stop the rest. Jobs share the machine's GPUs evenly.

    Args:
        plan: the comparison; no value of `machine` is `auto`.
        out: its folder, made or gone on with.
        jobs: runs at the same time.
        cells: the runs to make; None for all of the plan.
        finished: called with the outcome of each run that is made here.

    Returns:
        What failed.

    Raises:
        Stopped: after Ctrl-C or SIGTERM, once the runs have saved.
        DetdistillError: the folder cannot be used.
    """
    numbers = {cell: number for number, cell in enumerate(plan.cells())}
    asked = list(numbers) if cells is None else list(cells)
    try:
        (out / LOGS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetdistillError(f"{out} cannot be used: {error.strerror}") from error
    plan.write(out / PLAN)
    waiting = [cell for cell in asked if read_outcome(plan, cell, out) is None]
    if len(waiting) < len(asked):
        _say(f"{len(asked) - len(waiting)} of {len(asked)} runs are finished already")
    begun = len(asked) - len(waiting)
    running: dict[Cell, _Work] = {}
    failures = []
    with _first_signal() as caught, _saved_at_the_end(running):
        while waiting or running:
            if caught:
                raise Stopped(caught[0])
            while waiting and len(running) < jobs:
                cell = waiting.pop(0)
                begun += 1
                _say(f"run {begun} of {len(asked)}: {cell}")
                place = min(set(range(jobs)) - {work.place for work in running.values()})
                threads = threads_of(plan.recipe(cell))
                environment = _environment(threads, own_gpu(place, plan.recipe(cell).machine))
                process = _start(cell_command(out, numbers[cell], threads), environment, _log(out, cell))
                running[cell] = _Work(process, time.monotonic(), place)
            for cell, work in list(running.items()):
                status = work.process.poll()
                if status is not None:
                    del running[cell]
                    result = _result(plan, cell, out, status, time.monotonic() - work.start)
                    if isinstance(result, Failure):
                        failures.append(result)
                    else:
                        finished(result)
            time.sleep(LISTENING)
    return failures


def cell_command(out: Path, number: int, threads: int) -> list[str]:
    """The command of one run of a comparison whose plan is in the folder `out`."""
    options = {"--out": out, "--cell": number, "--threads": threads}
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "detdistill", "compare", str(out / PLAN), *words]


def own_gpu(place: int, machine: Machine) -> str | None:
    """The GPU of a job, as `CUDA_VISIBLE_DEVICES` has it.

    Args:
        place: of the job among those at the same time.
        machine: of its recipe.

    Returns:
        One of those that we may use, in turns; None where there are none, and for a run of several processes.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return devices[place % len(devices)] if devices and machine.devices == 1 else None


def _environment(threads: int, gpu: str | None) -> dict[str, str]:
    own = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **own}


def _start(command: Sequence[str], environment: Mapping[str, str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        # A session of its own: the terminal's Ctrl-C comes once, through us, and a second one would not let it save.
        return subprocess.Popen(  # noqa: S603 (our own command)
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )


def _result(plan: Plan, cell: Cell, out: Path, status: int, seconds: float) -> Failure | Outcome:
    log = _log(out, cell)
    outcome = None if status else read_outcome(plan, cell, out)
    if outcome is None:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        failure = Failure(cell, log, "\n".join(lines[-LAST_LINES:]) or f"exit status {status}")
        _say(f"FAILED: {cell}: {failure.message}")
        return failure
    ap = outcome.scores["AP"]
    found = "no AP" if ap is None else f"AP {100 * ap:.1f}"
    _say(f"finished: {cell}: {found} on {plan.report_on}, {seconds / 60:.1f} min")
    return outcome


def _log(out: Path, cell: Cell) -> Path:
    return out / LOGS / f"{cell.setting}_{cell.method}_{cell.seed}.log"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@contextmanager
def _saved_at_the_end(running: Mapping[Cell, _Work]) -> Iterator[None]:
    """Whatever ends the comparison, runs that are still at work save and stop: none is left alone in the background."""
    try:
        yield
    finally:
        for work in running.values():
            work.process.terminate()
        for work in running.values():
            work.process.wait()


@contextmanager
def _first_signal() -> Iterator[Sequence[int]]:
    """Gives a list that the first Ctrl-C or SIGTERM is put in; a second one acts as usual."""
    caught: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, _: FrameType | None) -> None:
        caught.append(number)
        _say("stopping: the runs finish their step and save")
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
