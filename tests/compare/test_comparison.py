from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from compare.test_table import PLAN as PLAN_OF_TABLES
from detdistill.cli import main
from detdistill.compare import comparison
from detdistill.compare.cell_runs import PLAN
from detdistill.compare.comparison import LOCK, compare
from detdistill.compare.local_pool import cell_command
from detdistill.compare.outcome import FILE, read_outcome
from detdistill.compare.plan import BASELINE, Plan, read_plan
from detdistill.compare.summary import write_summary
from detdistill.compare.table import Row
from detdistill.core.errors import DetdistillError
from support.small_runs import lines, small_distillation, write_boxes, write_teacher


def small_plan(folder: Path, *, epochs: int = 1, seeds: tuple[int, ...] = (0, 1)) -> Plan:
    data, teacher = write_boxes(folder / "data"), write_teacher(folder / "teacher")
    recipe = small_distillation(data, teacher, epochs=epochs)
    return Plan({"boxes": recipe}, {BASELINE: {}, "pfi": {"prediction_guided": {}}}, seeds)


def test_a_second_comparison_in_the_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the first one works; what a killed one was writing is removed then."""
    monkeypatch.setattr(comparison, "PATIENCE", 0.0)
    monkeypatch.setattr(comparison, "score_teachers", lambda *_: None)
    monkeypatch.setattr(comparison, "_kept_scores", lambda *_: {})
    monkeypatch.setattr(comparison, "run_all", lambda *_, **__: [])
    monkeypatch.setattr(comparison, "measure", lambda *_, **__: None)
    monkeypatch.setattr(comparison, "_summarize", lambda *_: [])
    torn = [tmp_path / ".table.json.17.tmp", tmp_path / "mine" / ".teacher.json.17.tmp"]
    for file in torn:
        file.parent.mkdir(exist_ok=True)
        file.touch()
    with FileLock(tmp_path / LOCK):
        with pytest.raises(DetdistillError) as problem:
            compare(PLAN_OF_TABLES, tmp_path)
        assert str(tmp_path) in str(problem.value)
        assert all(file.exists() for file in torn)
    assert compare(PLAN_OF_TABLES, tmp_path).failures == []
    assert not any(file.exists() for file in torn)


@pytest.mark.slow
def test_a_comparison_from_plan_to_page(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two at a time; a run that fails is told and does not stop the others; the same command makes what is missing."""
    written: list[int] = []

    def write(plan: Plan, rows: Sequence[Row], out: Path) -> None:
        written.append(sum(len(row.values) for row in rows))
        write_summary(plan, rows, out)

    monkeypatch.setattr(comparison, "write_summary", write)
    plan = small_plan(tmp_path)
    out = tmp_path / "out"
    blocked = plan.cells()[1].folder(out)
    blocked.mkdir(parents=True)
    (blocked / "letter.txt").write_text("not a run")
    came_out = compare(plan, out, jobs=2, threads=2)
    (failure,) = came_out.failures
    assert failure.cell == plan.cells()[1]
    assert "holds files, but no run" in failure.message
    assert [(row.method, row.seeds) for row in came_out.rows] == [("teacher", ()), (BASELINE, (0, 1)), ("pfi", (1,))]
    assert 0 < written[0] < 3, "the page can be read while the comparison goes on"
    assert written[-1] == 3
    outcome = read_outcome(read_plan(out / PLAN), plan.cells()[0], out)  # the kept plan has the number of threads
    assert outcome is not None
    assert outcome.threads == 2
    (blocked / "letter.txt").unlink()
    capfd.readouterr()
    assert main(["compare", str(out / PLAN), "--out", str(out)]) == 0
    said = capfd.readouterr()
    assert "3 of 4 runs are finished already" in said.err
    assert "the largest mean gain is pfi's" in said.out
    table = json.loads((out / "table.json").read_text())
    assert [(row["method"], len(row["seeds"])) for row in table] == [("teacher", 0), (BASELINE, 2), ("pfi", 2)]
    assert all(row["step_seconds"] > 0 for row in table[1:])


@pytest.mark.slow
def test_a_signal_saves_and_the_same_command_resumes(tmp_path: Path) -> None:
    plan = small_plan(tmp_path, epochs=400, seeds=(0,))
    out = tmp_path / "out"
    out.mkdir()
    plan.write(out / PLAN)
    command = [*cell_command(out, 0, 1)[:4], str(out / PLAN), "--out", str(out)]
    folder = plan.cells()[0].folder(out)
    metrics, count = folder / "metrics.jsonl", 0
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"})
        while not metrics.exists() or len(metrics.read_text().splitlines()) < count + 5:
            assert process.poll() is None, "the comparison ended"
            time.sleep(0.1)
        process.send_signal(number)
        _, said = process.communicate()
        assert process.returncode == 128 + number
        assert b"the same command resumes" in said
        assert (folder / "resume" / "state.ckpt").exists()
        assert not (folder / FILE).exists()
        steps = [line["step"] for line in lines(folder) if "loss" in line]
        assert steps == list(range(1, len(steps) + 1))
        count = len(metrics.read_text().splitlines())
