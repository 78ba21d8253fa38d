from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

from compare.test_table import PLAN, outcome
from detdistill.compare import cell_runs as run
from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import Cell, Plan
from detdistill.training.recipe import Machine

AT_WORK = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
FINISHING = """
import pathlib, sys, time
other = pathlib.Path(sys.argv[1])
while not (other.exists() and other.read_text()):
    time.sleep(0.05)
"""

TELLS_ITS_GPU = "import os, sys; open(sys.argv[1], 'a').write(os.environ.get('CUDA_VISIBLE_DEVICES', 'any') + ' ')"


@pytest.mark.parametrize(
    ("visible", "count", "machine", "gpus"),
    [
        (None, 0, Machine(), [None, None, None]),
        (None, 1, Machine(), ["0", "0", "0"]),
        (None, 2, Machine(), ["0", "1", "0"]),
        ("3,5", 2, Machine(), ["3", "5", "3"]),
        ("", 0, Machine(), [None, None, None]),
        (None, 2, Machine(devices=2, strategy="ddp"), [None, None, None]),
    ],
)
def test_jobs_take_the_gpus_in_turns(
    monkeypatch: pytest.MonkeyPatch, visible: str | None, count: int, machine: Machine, gpus: list[str | None]
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert [run.own_gpu(place, machine) for place in range(3)] == gpus


def test_jobs_at_the_same_time_are_on_different_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    monkeypatch.setattr(run, "cell_command", lambda *_: [sys.executable, "-c", TELLS_ITS_GPU, str(told)])
    monkeypatch.setattr(run, "read_outcome", lambda *_: None)
    run.run_all(PLAN, tmp_path / "out", jobs=2, cells=PLAN.cells()[:2])
    assert sorted(told.read_text().split()) == ["4", "7"]


def test_whatever_ends_a_comparison_leaves_no_run_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run finishes, and the disk is too full for the page; the second is at work then."""
    cells = PLAN.cells()[:2]
    number = tmp_path / "number"
    begun: set[Cell] = set()

    def command(_: Path, cell: int, __: int) -> list[str]:
        begun.add(PLAN.cells()[cell])
        return [sys.executable, "-c", AT_WORK if cell else FINISHING, str(number)]

    def read(_: Plan, cell: Cell, __: Path) -> Outcome | None:
        return outcome(cell.method, cell.seed, 0.5) if cell in begun else None

    def finished(_: Outcome) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(run, "cell_command", command)
    monkeypatch.setattr(run, "read_outcome", read)
    with pytest.raises(OSError, match="no space left"):
        run.run_all(PLAN, tmp_path / "out", jobs=2, cells=cells, finished=finished)
    with pytest.raises(ProcessLookupError):
        os.kill(int(number.read_text()), 0)
