from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from compare.test_table import PLAN, outcome
from detdistill.compare import run
from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import Cell, Plan

AT_WORK = "import os, pathlib, sys, time; pathlib.Path(sys.argv[1]).write_text(str(os.getpid())); time.sleep(600)"
FINISHING = """
import pathlib, sys, time
other = pathlib.Path(sys.argv[1])
while not (other.exists() and other.read_text()):
    time.sleep(0.05)
"""


def test_whatever_ends_a_comparison_leaves_no_run_in_the_background(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run finishes, and the disk is too full for the page; the second is at work then."""
    cells = PLAN.cells()[:2]
    number = tmp_path / "number"
    begun: set[Cell] = set()

    def command(_: Path, cell: int) -> list[str]:
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
