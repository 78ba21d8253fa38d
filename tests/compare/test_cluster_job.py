"""What a job of a cluster does when the scheduler is about to end it."""

from __future__ import annotations

import os
import pickle
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import pytest

from compare.test_table import PLAN, outcome
from detdistill.compare import cluster_job
from detdistill.compare.cell_runs import PLAN as PLAN_FILE
from detdistill.compare.cluster_job import CellJob, MeasuringJob
from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import Cell, Plan
from detdistill.training.interruption import Interrupted

SIGNALS = (signal.SIGUSR2, signal.SIGTERM)


class Requeued(Exception):  # noqa: N818
    """Raised where submitit would queue the job again and exit."""


def requeue(*_: object) -> None:
    raise Requeued


def bypass(*_: object) -> None:
    """As submitit's handler of SIGTERM."""


@pytest.fixture(autouse=True)
def handlers_of_submitit() -> Iterator[None]:
    before = [signal.signal(number, handler) for number, handler in zip(SIGNALS, (requeue, bypass), strict=True)]
    yield
    for number, handler in zip(SIGNALS, before, strict=True):
        signal.signal(number, handler)


@pytest.fixture
def computing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """Computes a job whose run does what is given."""
    PLAN.write(tmp_path / PLAN_FILE)

    def compute(doing: Callable[[], None]) -> None:
        def run_cell(_: Plan, cell: Cell, out: Path, *, threads: int) -> Outcome:
            assert (cell, out, threads) == (PLAN.cells()[4], tmp_path, 2)
            doing()
            return outcome(cell.method, cell.seed, 0.5)

        monkeypatch.setattr(cluster_job, "run_cell", run_cell)
        CellJob(tmp_path, 4, 2)()

    return compute


def training(sent: signal.Signals) -> Callable[[], None]:
    """A training that a signal reaches, and that saves and stops then, as `Interruption` does."""

    def train() -> None:
        asked: list[int] = []

        def stop(number: int, _: FrameType | None) -> None:
            asked.append(number)

        signal.signal(signal.SIGTERM, stop)
        signal.raise_signal(sent)
        signal.raise_signal(sent)  # a second one changes nothing
        assert set(asked) == {signal.SIGTERM}
        raise Interrupted(asked[0], 7)

    return train


def test_the_run_is_saved_before_the_job_is_queued_again(computing: Callable[[Callable[[], None]], None]) -> None:
    with pytest.raises(Requeued):
        computing(training(signal.SIGUSR2))
    assert signal.getsignal(signal.SIGUSR2) is requeue


def test_outside_of_training_the_job_is_queued_again_at_once(computing: Callable[[Callable[[], None]], None]) -> None:
    with pytest.raises(Requeued):
        computing(lambda: signal.raise_signal(signal.SIGUSR2))


def test_a_cancelled_job_saves_and_has_no_result(computing: Callable[[Callable[[], None]], None]) -> None:
    """submitit keeps a result for errors, but none for an exit."""
    with pytest.raises(SystemExit) as stop:
        computing(training(signal.SIGTERM))
    assert stop.value.code == 143


def test_a_process_that_loads_images_is_not_ended_by_the_signal(
    computing: Callable[[Callable[[], None]], None],
) -> None:
    statuses: list[int] = []

    def fork() -> None:
        child = os.fork()
        if child == 0:
            try:
                signal.raise_signal(signal.SIGUSR2)
                os._exit(7)
            finally:
                os._exit(1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    computing(fork)
    assert statuses == [7]


def test_without_handlers_the_signals_are_left_alone(computing: Callable[[Callable[[], None]], None]) -> None:
    """As in submitit's debug executor."""
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    seen: list[object] = []
    computing(lambda: seen.append(signal.getsignal(signal.SIGUSR2)))
    assert seen == [signal.SIG_DFL]


@pytest.mark.parametrize("job", [CellJob(Path("/shared/out"), 3, 2), MeasuringJob(Path("/shared/out"), 2)])
def test_a_job_that_is_queued_again_is_the_same(job: CellJob | MeasuringJob) -> None:
    again = pickle.loads(pickle.dumps(job)).checkpoint()
    assert again.function == job
    assert (again.args, again.kwargs) == ((), {})
