"""Whole comparisons as jobs: with submitit's own executors, and with a stand-in for Slurm's commands."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
import submitit

from detdistill.cli import main
from detdistill.compare.cluster import Cluster
from detdistill.compare.comparison import compare
from detdistill.compare.outcome import run_cell
from detdistill.compare.plan import BASELINE, Plan
from support import fake_slurm
from support.linux_processes import processes_with
from support.small_runs import assert_equal_runs, small_distillation, write_boxes, write_teacher

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="finds processes in /proc"),
]


def small_plan(folder: Path, epochs: int) -> Plan:
    recipe = small_distillation(write_boxes(folder / "data"), write_teacher(folder / "teacher"), epochs=epochs)
    return Plan({"boxes": recipe}, {BASELINE: {}, "pfi": {"prediction_guided": {}}}, (0,))


@pytest.mark.parametrize("executor", ["debug", "local"])
def test_jobs_of_an_executor_make_the_table(tmp_path: Path, executor: str) -> None:
    plan, out = small_plan(tmp_path, epochs=1), tmp_path / "out"
    result = compare(plan, out, cluster=Cluster(time=30, executor=executor))  # type: ignore[arg-type]
    assert result.failures == []
    assert [(row.method, row.seeds) for row in result.rows] == [("teacher", ()), (BASELINE, (0,)), ("pfi", (0,))]
    assert all(row.step_seconds is not None for row in result.rows[1:])
    assert (out / "report.html").exists()
    files = sorted(file.parent.name for file in (out / "cluster").rglob("*_submitted.pkl"))
    assert files == ([] if executor == "debug" else ["0", "0", "measuring"])


def interrupt_and_preempt(jobs: Path, metrics: Path) -> None:
    """Ctrl-C once the first run is at work, and the signal with which Slurm announces the end of its time."""
    while not metrics.exists() and not any(file.read_text() == "FAILED" for file in jobs.glob("*.state")):
        time.sleep(0.05)
    os.kill(os.getpid(), signal.SIGINT)
    for process in processes_with("submitit.core._submit"):
        folder = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")[-2]
        if folder.startswith(bytes(jobs.parent.parent / "out")) and b"baseline" in folder:
            os.kill(process, signal.SIGUSR2)


def test_slurm_jobs_survive_ctrl_c_and_their_time_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The same command watches the same jobs again, and the runs are those of one process to the last bit."""
    commands = fake_slurm.install(tmp_path / "slurm")
    jobs = tmp_path / "slurm" / "jobs"
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    submitit.SlurmJob.watcher.clear()
    plan, out = small_plan(tmp_path, epochs=20), tmp_path / "out"
    plan.write(tmp_path / "plan.yaml")
    command = ["compare", str(tmp_path / "plan.yaml"), "--out", str(out), "--cluster", "slurm", "--time", "60"]
    first = plan.cells()[0].folder(out)
    disturbance = threading.Thread(target=interrupt_and_preempt, args=(jobs, first / "metrics.jsonl"))
    disturbance.start()
    with pytest.raises(SystemExit) as stop:
        main(command)
    disturbance.join()
    assert stop.value.code == 130
    assert "scancel 1 2" in capfd.readouterr().err
    submitit.SlurmJob.watcher.clear()
    assert main(command) == 0, capfd.readouterr().err
    assert len(list(jobs.glob("*.state"))) == 3, "two runs and the measurements, each submitted once"
    assert (jobs / "requeued").read_text() == "1\n"
    for cell in plan.cells():
        run_cell(plan, cell, tmp_path / "expected")
        assert_equal_runs(cell.folder(tmp_path / "expected"), cell.folder(out))
