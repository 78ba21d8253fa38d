from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from detdistill.compare.cell_runs import PLAN
from detdistill.compare.local_pool import cell_command
from detdistill.compare.outcome import read_outcome
from detdistill.compare.plan import BASELINE, Plan
from support.linux_processes import end_soon, processes_with
from support.small_runs import small_distillation, write_boxes, write_teacher


def two_process_plan(folder: Path, epochs: int) -> Plan:
    recipe = small_distillation(write_boxes(folder / "data"), write_teacher(folder / "teacher"), epochs=epochs)
    recipe = replace(recipe, machine=replace(recipe.machine, devices=2))
    plan = Plan({"boxes": recipe}, {BASELINE: {}, "pfi": {"prediction_guided": {}}}, (0,))
    (folder / "out").mkdir()
    plan.write(folder / "out" / PLAN)
    return plan


@pytest.mark.slow
def test_a_run_of_two_processes_is_scored_and_told_once(tmp_path: Path) -> None:
    plan, out = two_process_plan(tmp_path, epochs=1), tmp_path / "out"
    command = cell_command(out, 1, threads=1)
    said = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert said.returncode == 0, said.stderr
    outcome = read_outcome(plan, plan.cells()[1], out)
    assert outcome is not None
    assert outcome.steps == 2
    assert said.stdout.splitlines() == [f"boxes, pfi, seed 0: AP {100 * outcome.scores['AP']:.1f} on val"]


STARTING = """
import os, subprocess, sys, time
from detdistill.core.starter import ending_with_this_process
subprocess.Popen(sys.argv[1:], env={**os.environ, **ending_with_this_process()}, start_new_session=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc")
def test_both_processes_end_with_a_killed_comparison(tmp_path: Path) -> None:
    plan, out = two_process_plan(tmp_path, epochs=400), tmp_path / "out"
    comparison = subprocess.Popen([sys.executable, "-c", STARTING, *cell_command(out, 0, threads=1)])
    metrics = plan.cells()[0].folder(out) / "metrics.jsonl"
    while not metrics.exists():
        assert comparison.poll() is None
        time.sleep(0.1)
    processes = processes_with("--cell", str(out))
    assert len(set(processes) - {comparison.pid}) == 2
    comparison.kill()
    comparison.wait()
    assert end_soon(processes)
