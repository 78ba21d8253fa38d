from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from compare.test_table import PLAN, outcome
from detdistill.compare import cell_runs
from detdistill.compare.cell_runs import Failure, Stopped, run_all, stoppable
from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import Cell, Plan, read_plan
from detdistill.core.errors import DetdistillError

CELLS = PLAN.cells()


@dataclass
class Done:
    """Work that has ended; without an outcome it failed."""

    log: Path = Path("log")

    def has_ended(self) -> bool:
        return True

    def complaint(self) -> str:
        return "it failed"


@dataclass
class Ready:
    """A pool whose runs end at once."""

    fails: frozenset[Cell] = frozenset()
    places: int = 2
    pause: float = 0.0
    stopping: str = "stopping"
    stopped: str = "stopped"
    begun: list[tuple[int, Cell]] = field(default_factory=list)
    left: int = 0

    def start(self, number: int, cell: Cell) -> Done:
        self.begun.append((number, cell))
        return Done()

    def leave(self) -> None:
        self.left += 1


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Ready:
    """Its runs have an outcome once they were started, unless they fail."""
    made = Ready(frozenset({CELLS[1]}))

    def read(_: Plan, cell: Cell, __: Path) -> Outcome | None:
        begun = cell in [started for _, started in made.begun] or cell == CELLS[3]  # that one is finished already
        return outcome(cell.method, cell.seed, 0.5) if begun and cell not in made.fails else None

    monkeypatch.setattr(cell_runs, "read_outcome", read)
    return made


def test_a_failed_run_does_not_stop_the_others(tmp_path: Path, pool: Ready) -> None:
    finished: list[tuple[str, int]] = []
    failures = run_all(PLAN, tmp_path / "out", pool, finished=lambda one: finished.append((one.method, one.seed)))
    assert failures == [Failure(CELLS[1], Path("log"), "it failed")]
    assert [cell for _, cell in pool.begun] == [cell for cell in CELLS if cell != CELLS[3]]
    assert finished == [(cell.method, cell.seed) for _, cell in pool.begun if cell != CELLS[1]]
    assert read_plan(tmp_path / "out" / "plan.yaml").cells() == CELLS


def test_only_the_wanted_runs_are_computed_under_their_numbers_in_the_plan(tmp_path: Path, pool: Ready) -> None:
    assert run_all(PLAN, tmp_path, pool, cells=[CELLS[5], CELLS[2], CELLS[3]]) == []
    assert pool.begun == [(5, CELLS[5]), (2, CELLS[2])]


def test_the_pool_is_left_whatever_ends_the_comparison(tmp_path: Path, pool: Ready) -> None:
    def finished(_: Outcome) -> None:
        raise OSError("no space left")

    with pytest.raises(OSError, match="no space left"):
        run_all(PLAN, tmp_path, pool, finished=finished)
    assert pool.left == 1


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_before_the_next_run(tmp_path: Path, pool: Ready, number: int, status: int) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as stop:
        run_all(PLAN, tmp_path, pool, finished=lambda _: signal.raise_signal(number))
    assert stop.value.exit_status == status
    assert pool.left == 1
    assert len(pool.begun) == pool.places
    assert signal.getsignal(number) is before


def test_what_fails_because_of_the_signal_is_no_failure() -> None:
    """Ctrl-C in a terminal ends sbatch, too."""
    with pytest.raises(Stopped), stoppable(Ready()):  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        raise DetdistillError("sbatch was interrupted")


def test_a_second_signal_acts_as_usual() -> None:
    with stoppable(Ready()) as check:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Stopped):
            check()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("block", [Path.touch, lambda path: (path.parent / "other").touch()])
def test_a_folder_that_cannot_be_used_is_an_error(tmp_path: Path, pool: Ready, block: Callable[[Path], None]) -> None:
    block(tmp_path / "out")
    place = tmp_path / "out" if (tmp_path / "out").exists() else tmp_path / "other" / "out"
    with pytest.raises(DetdistillError) as problem:
        run_all(PLAN, place, pool)
    assert str(place) in str(problem.value)
    assert pool.begun == []
