from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from filelock import FileLock

from compare.test_table import PLAN
from detdistill.compare import local_pool
from detdistill.compare.cell_runs import LOGS
from detdistill.compare.local_pool import LocalPool, own_gpu
from detdistill.compare.machine_values import with_machine_values
from detdistill.training.recipe import Machine
from detdistill.training.run_folder import RunFolder

CELLS = PLAN.cells()
SAYS_ITS_GPU = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ['OMP_NUM_THREADS'])"


def pool_running(
    script: str, folder: Path, monkeypatch: pytest.MonkeyPatch, *, jobs: int = 2, threads: int = 1
) -> LocalPool:
    monkeypatch.setattr(local_pool, "cell_command", lambda *_: [sys.executable, "-c", script])
    plan = with_machine_values(PLAN, folder, threads=threads)
    return LocalPool(plan, folder, jobs=jobs)


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
    assert [own_gpu(place, machine) for place in range(3)] == gpus


def test_jobs_at_the_same_time_are_on_different_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that starts later takes the GPU of one that has ended."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")
    pool = pool_running(SAYS_ITS_GPU, tmp_path, monkeypatch, threads=3)
    first, second = (pool.start(number, CELLS[number]) for number in range(2))
    second.process.wait()
    first_process = first.process
    third = pool.start(2, CELLS[2]) if first_process.wait() == 0 else None
    assert third is not None
    third.process.wait()
    assert [run.log.read_text().split() for run in (first, second, third)] == [["4", "3"], ["7", "3"], ["4", "3"]]


@pytest.mark.parametrize(
    ("script", "complaint"),
    [
        ("import sys; sys.exit('first\\nsecond\\nthird\\nfourth')", "second\nthird\nfourth"),
        ("import os; os._exit(3)", "exit status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "killed by SIGKILL"),
    ],
)
def test_a_failed_run_complains_of_this_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, complaint: str
) -> None:
    log = tmp_path / LOGS / "mine" / CELLS[0].method / "0.log"
    log.parent.mkdir(parents=True)
    log.write_text("error: of an earlier attempt\n")
    run = pool_running(script, tmp_path, monkeypatch).start(0, CELLS[0])
    run.process.wait()
    assert run.has_ended()
    assert run.log == log
    assert run.complaint() == complaint
    assert log.read_text().startswith("error: of an earlier attempt\n")


def test_leaving_lets_the_processes_save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saving = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit('saved')); "
        "print('ready', flush=True); time.sleep(600)"
    )
    pool = pool_running(saving, tmp_path, monkeypatch)
    runs = [pool.start(number, CELLS[number]) for number in range(2)]
    while not all("ready" in run.log.read_text() for run in runs):
        assert not any(run.has_ended() for run in runs)
    pool.leave()
    assert [run.process.poll() for run in runs] == [1, 1]
    assert [run.log.read_text() for run in runs] == ["ready\nsaved\n"] * 2


def test_a_run_in_a_folder_that_is_in_use_is_announced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [RunFolder(CELLS[number].folder(tmp_path)) for number in range(2)]
    for folder in folders:
        folder.lock.parent.mkdir(parents=True)
        folder.lock.touch()
    pool = pool_running("", tmp_path, monkeypatch)
    with FileLock(folders[1].lock):
        for number in range(2):
            pool.start(number, CELLS[number]).process.wait()
    said = capsys.readouterr().err
    assert str(CELLS[0]) not in said
    assert str(CELLS[1]) in said


def test_a_process_has_neither_the_terminal_nor_our_session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = pool_running("import os, sys; print(os.getsid(0), repr(sys.stdin.read()))", tmp_path, monkeypatch).start(
        0, CELLS[0]
    )
    run.process.wait()
    assert run.log.read_text().split() == [str(run.process.pid), "''"]
    assert os.getsid(0) != run.process.pid
    assert isinstance(run.process, subprocess.Popen)
