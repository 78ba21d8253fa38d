from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from detdistill.compare.cell_runs import PLAN, cell_command
from detdistill.compare.outcome import read_outcome
from detdistill.compare.plan import BASELINE, Plan
from support.small_runs import small_distillation, write_boxes, write_teacher


@pytest.mark.slow
def test_a_run_of_two_processes_is_scored_and_told_once(tmp_path: Path) -> None:
    recipe = small_distillation(write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher"), epochs=1)
    recipe = replace(recipe, machine=replace(recipe.machine, devices=2, strategy="ddp"))
    plan = Plan({"boxes": recipe}, {BASELINE: {}, "pfi": {"prediction_guided": {}}}, (0,))
    out = tmp_path / "out"
    out.mkdir()
    plan.write(out / PLAN)
    command = cell_command(out, 1, threads=1)
    said = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert said.returncode == 0, said.stderr
    outcome = read_outcome(plan, plan.cells()[1], out)
    assert outcome is not None
    assert outcome.steps == 2
    assert said.stdout.splitlines() == [f"boxes, pfi, seed 0: AP {100 * outcome.scores['AP']:.1f} on val"]
