"""Runs of a comparison as processes of this machine, a few at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import torch

from detdistill.compare.cell_runs import LOGS, PLAN, last_lines, say
from detdistill.compare.folder_use import is_in_use
from detdistill.compare.machine_values import threads_of
from detdistill.compare.plan import Cell, Plan
from detdistill.core.starter import ending_with_this_process
from detdistill.training.recipe import Machine
from detdistill.training.run_folder import RunFolder


@dataclass(frozen=True)
class LocalRun:
    """A run in a process of this machine.

    Attributes:
        process: The process.
        log: Its output, after that of earlier attempts.
        start: Byte of the log at which this attempt begins.
    """

    process: subprocess.Popen[bytes]
    log: Path
    start: int

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self.process.poll() is not None

    def complaint(self) -> str:
        """Return the last lines of the log, or how the process ended if it wrote none."""
        status = self.process.returncode
        ending = f"killed by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        return last_lines(self.log, self.start) or ending


class LocalPool:
    """A pool of processes. They end with this one, however it ends, and share the machine's GPUs evenly.

    Attributes:
        places: Runs at the same time.
        pause: Seconds between two looks at the processes.
        stopping: Message after Ctrl-C or SIGTERM.
        stopped: Message when the processes have ended.
    """

    pause = 0.2
    stopping = "stopping: the runs finish their step and save"
    stopped = "stopped; finished runs are kept, and the same command resumes the others"

    def __init__(self, plan: Plan, out: Path, *, jobs: int) -> None:
        self.places = jobs
        self._plan, self._out = plan, out
        self._at_work: dict[int, LocalRun] = {}

    def start(self, number: int, cell: Cell) -> LocalRun:
        """Start the process of a run, while fewer than `places` are at work.

        Args:
            number: Place of the cell in the plan.
            cell: The run.
        """
        if is_in_use(RunFolder(cell.folder(self._out))):
            say(f"{cell}: waiting for another process that is training in its folder")
        place = next(place for place in range(self.places) if self._is_free(place))
        log = cell.folder(self._out / LOGS).with_suffix(".log")
        log.parent.mkdir(parents=True, exist_ok=True)
        recipe = self._plan.recipe(cell)
        threads = threads_of(recipe)
        environment = _environment(threads, own_gpu(place, recipe.machine))
        with log.open("ab") as file:
            # In a session of its own it gets the terminal's Ctrl-C once, through us. A second one would end it.
            process = subprocess.Popen(  # noqa: S603 (our own command)
                cell_command(self._out, number, threads),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )
            self._at_work[place] = LocalRun(process, log, file.tell())
        return self._at_work[place]

    def leave(self) -> None:
        """Let the runs that are at work save and stop, and wait until they have ended."""
        at_work = [run for run in self._at_work.values() if not run.has_ended()]
        for run in at_work:
            run.process.terminate()
        for run in at_work:
            run.process.wait()

    def _is_free(self, place: int) -> bool:
        return place not in self._at_work or self._at_work[place].has_ended()


def cell_command(out: Path, number: int, threads: int) -> list[str]:
    """Return the command of one run of a comparison whose plan is in the folder `out`."""
    options = {"--out": out, "--cell": number, "--threads": threads}
    words = [str(word) for option in options.items() for word in option]
    return [sys.executable, "-m", "detdistill", "compare", str(out / PLAN), *words]


def own_gpu(place: int, machine: Machine) -> str | None:
    """Return the GPU of a job, as `CUDA_VISIBLE_DEVICES` has it.

    Args:
        place: Number of the job among those at the same time.
        machine: The machine section of its recipe.

    Returns:
        One of the visible GPUs, in turns; None without GPUs, and for a run of several processes.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    devices = visible.split(",") if visible else [str(number) for number in range(torch.cuda.device_count())]
    return devices[place % len(devices)] if devices and machine.devices == 1 else None


def _environment(threads: int, gpu: str | None) -> dict[str, str]:
    own = {} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu}
    few = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    return {**os.environ, **ending_with_this_process(), **few, **own}
