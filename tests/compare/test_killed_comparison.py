"""A comparison that is killed at random moments, and started again each time until it is finished.

`DETDISTILL_COMPARE_KILLS=20` makes it a campaign, `DETDISTILL_COMPARE_SEED=1` another one. A campaign of more than 25
minutes needs the option `-o faulthandler_timeout=0`.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from detdistill.compare.local_pool import cell_command
from detdistill.compare.outcome import Outcome, read_outcome, run_cell
from detdistill.compare.plan import BASELINE, Plan
from support.linux_processes import end_soon, processes_with
from support.small_runs import assert_equal_runs, small_distillation, write_boxes, write_teacher

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]

KILLS = int(os.environ.get("DETDISTILL_COMPARE_KILLS", "2"))
SEED = int(os.environ.get("DETDISTILL_COMPARE_SEED", "0"))
OF_THE_ATTEMPT = ("seconds", "peak_memory_mib")


def progress(out: Path) -> int:
    """Lines in the logs of all runs, of which a kill may take a few away again, and outcomes."""
    lines = sum(len(file.read_bytes().splitlines()) for file in out.glob("*/*/*/metrics.jsonl"))
    return lines + 100 * sum(1 for _ in out.glob("*/*/*/outcome.json"))


def kill_at(process: subprocess.Popen[bytes], out: Path, chance: random.Random) -> bool:
    """Kills a comparison, or its process group, at a random moment; False if it finished before."""
    if chance.random() < 0.25:  # while it starts
        wanted, deadline = sys.maxsize, time.monotonic() + chance.uniform(0, 8)
    else:
        wanted, deadline = progress(out) + chance.randrange(1, 9), time.monotonic() + 300
    while progress(out) < wanted and time.monotonic() < deadline:
        if process.poll() is not None:
            return False
        time.sleep(0.02)
    if chance.random() < 0.5:
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return True


def lasting(outcome: Outcome | None) -> dict[str, object]:
    assert outcome is not None
    return {name: value for name, value in asdict(outcome).items() if name not in OF_THE_ATTEMPT}


@pytest.mark.timeout(120 + 300 * KILLS)
def test_a_comparison_killed_again_and_again_gives_the_same_to_the_last_bit(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    data, teacher = write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher")
    recipe = small_distillation(data, teacher, epochs=4 + 2 * KILLS)
    plan = Plan({"boxes": recipe}, {BASELINE: {}, "pfi": {"prediction_guided": {}}}, (0, 1))
    expected, out = tmp_path / "expected", tmp_path / "out"
    plan.write(tmp_path / "plan.yaml")
    command = [*cell_command(out, 0, 1)[:4], str(tmp_path / "plan.yaml"), "--out", str(out), "--jobs", "2"]
    kills = 0
    with (tmp_path / "output.txt").open("ab") as output:
        while True:
            process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
            if kills == KILLS or not kill_at(process, out, chance):
                break
            kills += 1
            if chance.random() < 0.5:  # else the next comparison starts while the old runs may be alive
                assert end_soon(processes_with("--cell", str(out)))
    assert process.wait() == 0, (tmp_path / "output.txt").read_text()
    assert "FAILED" not in (tmp_path / "output.txt").read_text()
    assert kills == KILLS
    assert processes_with("--cell", str(out)) == []
    assert [file.name for file in tmp_path.rglob(".*.tmp")] == []
    for cell in plan.cells():
        kept = run_cell(plan, cell, expected)
        assert_equal_runs(cell.folder(expected), cell.folder(out))
        assert lasting(read_outcome(plan, cell, out)) == lasting(kept)
