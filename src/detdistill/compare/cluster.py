"""Runs of a comparison as jobs of a cluster, submitted and watched through submitit."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from detdistill.compare.cell_runs import last_lines
from detdistill.compare.cluster_job import CellJob, MeasuringJob
from detdistill.compare.plan import Cell, Plan
from detdistill.core.errors import DetdistillError
from detdistill.core.settings import settings
from detdistill.training.recipe import Machine

if TYPE_CHECKING:
    import submitit

FOLDER = "cluster"
"""Folder of the comparison with the files of its jobs."""
SIGNAL = 120
"""Seconds that a job has to save before its time limit; at most half of the limit."""

Name = Annotated[str, Field(pattern=r"^[^\s,]+$")]


@settings
class Cluster:
    """The jobs of a comparison on a cluster: one for each run, and one for the measurements at the end."""

    time: PositiveInt
    """Time limit of a job in minutes. A run that takes longer is queued again and resumed."""
    partition: Name | None = None
    """Partition; the cluster's default without one."""
    account: Name | None = None
    """Account that is charged."""
    gpus: NonNegativeInt | None = None
    """GPUs of a job on each machine."""
    cpus: PositiveInt | None = None
    """CPU cores of each training process. Default: its threads and the processes that load images."""
    memory: PositiveFloat | None = None
    """Memory of a job on each machine, in GB."""
    requeue: NonNegativeInt = 10
    """How often a job is queued again when its time is up. A preempted job is always queued again, unless this is 0."""
    executor: Literal["slurm", "local", "debug"] = "slurm"
    """Executor of submitit. `local` (processes of this machine) and `debug` (this process) are for tests."""


@dataclass(frozen=True)
class ClusterRun:
    """A job of the cluster.

    Attributes:
        job: The job, as submitit knows it.
    """

    job: submitit.Job[None]

    @property
    def log(self) -> Path:
        """File with the errors of the job's first process; its output is beside it."""
        return self.job.task(0).paths.stderr

    def has_ended(self) -> bool:
        """Whether the job is neither waiting nor running."""
        return self.job.done()

    def complaint(self) -> str:
        """Return the last lines of its log, or the state of the job if there are none."""
        return last_lines(self.log) or f"job {self.job.job_id}: {self.job.state}"


class ClusterPool:
    """The queue of a cluster. All runs are submitted at once, and stay there when this process ends.

    Attributes:
        places: Without limit: the cluster decides how many jobs run at the same time.
        pause: Seconds between two looks at the jobs.
        stopping: Message after Ctrl-C or SIGTERM.

    Raises:
        DetdistillError: submitit is not installed, or this machine cannot submit jobs.
    """

    places = sys.maxsize
    pause = 1.0
    stopping = "stopping: the submitted jobs stay in the queue"

    def __init__(self, plan: Plan, out: Path, cluster: Cluster, *, threads: int | None) -> None:
        self._plan, self._out, self._cluster, self._threads = plan, out.absolute(), cluster, threads
        self._attached: dict[Path, submitit.Job[None]] = {}
        self._jobs: list[submitit.Job[None]] = []
        self._executor(self._out / FOLDER)
        if cluster.executor == "slurm":
            self._attached = self._queued()

    @property
    def stopped(self) -> str:
        """Message when the pool has been left, with the command that cancels the jobs."""
        waiting = [job.job_id for job in self._jobs if not job.done()]
        ending = f"; `scancel {' '.join(waiting)}` cancels them" if waiting else ""
        return f"stopped watching; the jobs go on, and the same command watches them again{ending}"

    def start(self, number: int, cell: Cell) -> ClusterRun:
        """Submit the job of a run, or attach to the one that was submitted before and has not ended.

        Args:
            number: Place of the cell in the plan.
            cell: The run.

        Raises:
            DetdistillError: The cluster refused the job.
        """
        work = CellJob(self._out, number, self._threads)
        name = f"{cell.setting}-{cell.method}-{cell.seed}"
        return self._submit(work, self._cell_folder(cell), name, self._plan.recipe(cell).machine)

    def measure(self) -> ClusterRun:
        """Submit the job that scores the teachers and times the methods' steps, or attach to it.

        Raises:
            DetdistillError: The cluster refused the job.
        """
        machine = replace(next(iter(self._plan.settings.values())).machine, devices=1, nodes=1)
        return self._submit(MeasuringJob(self._out, self._threads), self._measuring_folder(), "measuring", machine)

    def leave(self) -> None:
        """Leave the jobs as they are."""

    def _submit(self, work: Callable[[], None], folder: Path, name: str, machine: Machine) -> ClusterRun:
        job = self._attached.pop(folder, None)
        if job is None:
            from submitit.core.utils import FailedJobError, FailedSubmissionError

            executor = self._executor(folder)
            executor.update_parameters(**self._parameters(f"detdistill-{name}", machine))
            try:
                job = executor.submit(work)
            except (FailedJobError, FailedSubmissionError, OSError) as error:
                raise DetdistillError(f"the job of {name} could not be submitted: {error}") from error
        self._jobs.append(job)
        return ClusterRun(job)

    def _executor(self, folder: Path) -> submitit.AutoExecutor:
        kind = self._cluster.executor
        options = {} if kind == "debug" else {f"{kind}_max_num_timeout": self._cluster.requeue}
        try:
            import submitit

            return submitit.AutoExecutor(folder, cluster=kind, **options)
        except ModuleNotFoundError as error:
            if error.name != "submitit":
                raise
            raise DetdistillError(
                "jobs of a cluster need the package submitit, which is not installed: pip install 'detdistill[cluster]'"
            ) from error
        except RuntimeError as error:
            raise DetdistillError(
                "this machine cannot submit Slurm jobs (no command srun): run this on a login node of the cluster"
            ) from error

    def _parameters(self, name: str, machine: Machine) -> dict[str, Any]:
        own = self._cluster
        return {
            "name": name,
            "timeout_min": own.time,
            "mem_gb": own.memory,
            "nodes": machine.nodes,
            "tasks_per_node": machine.devices,
            "gpus_per_node": own.gpus,
            "cpus_per_task": own.cpus or (self._threads or 1) + machine.workers,
            "slurm_partition": own.partition,
            "slurm_account": own.account,
            "slurm_signal_delay_s": min(SIGNAL, 30 * own.time),
            "slurm_additional_parameters": {"requeue" if own.requeue else "no-requeue": True},
        }

    def _cell_folder(self, cell: Cell) -> Path:
        return cell.folder(self._out / FOLDER / "runs")

    def _measuring_folder(self) -> Path:
        return self._out / FOLDER / "measuring"

    def _queued(self) -> dict[Path, submitit.Job[None]]:
        """The jobs that were submitted before and have not ended, by folder. One question to the cluster for all."""
        import submitit

        found: dict[Path, submitit.Job[None]] = {}
        folders = {self._cell_folder(cell): self._plan.recipe(cell).machine for cell in self._plan.cells()}
        for folder, machine in {**folders, self._measuring_folder(): Machine()}.items():
            tickets = sorted(folder.glob("*_submitted.pkl"), key=lambda file: file.stat().st_mtime)
            if tickets:
                number = tickets[-1].name.removesuffix("_submitted.pkl")
                tasks = range(machine.devices * machine.nodes)
                found[folder] = submitit.SlurmJob(folder, number, tasks)
        return {folder: job for folder, job in found.items() if not job.done()}
