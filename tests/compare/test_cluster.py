"""Jobs of a cluster, with Slurm's commands as `support.fake_slurm` has them: no test here met a real cluster."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import submitit

from compare.test_table import PLAN
from detdistill.compare.cluster import Cluster, ClusterPool
from detdistill.core.errors import DetdistillError, SettingsError
from support import fake_slurm

CELLS = PLAN.cells()


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the jobs' states; jobs stay pending."""
    commands = fake_slurm.install(tmp_path / "slurm")
    monkeypatch.setenv("PATH", f"{commands}{os.pathsep}{os.environ['PATH']}")
    submitit.SlurmJob.watcher.clear()
    (tmp_path / "slurm" / "jobs" / "hold").touch()
    return tmp_path / "slurm" / "jobs"


def states(jobs: Path) -> list[str]:
    return [file.read_text() for file in sorted(jobs.glob("*.state"), key=lambda file: int(file.stem))]


def a_pool(out: Path, **options: object) -> ClusterPool:
    """A pool that asks the cluster anew, as another process would."""
    submitit.SlurmJob.watcher.clear()
    return ClusterPool(PLAN, out, Cluster(**{"time": 60, **options}), threads=2)  # type: ignore[arg-type]


def flags(script: str) -> dict[str, str]:
    lines = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    return {name: value for name, _, value in (line.partition("=") for line in lines)}


def test_each_run_is_a_job_with_the_options(tmp_path: Path, jobs: Path) -> None:
    options = {"partition": "gpu", "account": "me", "gpus": 1, "memory": 12.5, "cpus": 6, "requeue": 2}
    pool = a_pool(tmp_path / "out", **options)
    work = pool.start(4, CELLS[4])
    script = flags((jobs / "1.sh").read_text())
    expected = {
        "job-name": "detdistill-mine-hint-1",
        "time": "60",
        "partition": "gpu",
        "account": "me",
        "gpus-per-node": "1",
        "mem": "12800MB",
        "cpus-per-task": "6",
        "nodes": "1",
        "ntasks-per-node": "1",
        "signal": "USR2@120",
        "requeue": "",
    }
    assert expected.items() <= script.items()
    assert not work.has_ended()
    assert work.log.parent == tmp_path / "out" / "cluster" / "runs" / "mine" / "hint" / "1"


def test_what_is_not_asked_for_is_left_to_the_cluster(tmp_path: Path, jobs: Path) -> None:
    a_pool(tmp_path / "out", time=1, requeue=0).start(0, CELLS[0])
    script = flags((jobs / "1.sh").read_text())
    assert script.keys().isdisjoint({"partition", "account", "gpus-per-node", "mem", "requeue"})
    assert script["cpus-per-task"] == "4", "two threads and two processes that load images"
    assert script["signal"] == "USR2@30", "a short job is signalled in its second half"
    assert "no-requeue" in script


def test_a_run_of_several_processes_has_a_task_for_each(tmp_path: Path, jobs: Path) -> None:
    recipe = PLAN.settings["mine"]
    recipe = replace(recipe, machine=replace(recipe.machine, devices=4, nodes=2, strategy="ddp"))
    plan = replace(PLAN, settings={"mine": recipe})
    pool = ClusterPool(plan, tmp_path / "out", Cluster(time=60, gpus=4), threads=1)
    work = pool.start(0, CELLS[0])
    script = flags((jobs / "1.sh").read_text())
    assert {"nodes": "2", "ntasks-per-node": "4", "gpus-per-node": "4"}.items() <= script.items()
    assert work.log.name == "1_0_log.err"
    pool.measure()
    assert {"nodes": "1", "ntasks-per-node": "1"}.items() <= flags((jobs / "2.sh").read_text()).items()


def test_the_same_command_attaches_to_the_jobs_that_have_not_ended(tmp_path: Path, jobs: Path) -> None:
    """Of four jobs one waits, one runs, one was cancelled and one failed: only the last two are submitted again."""
    out = tmp_path / "out"
    first = a_pool(out)
    for number in range(3):
        first.start(number, CELLS[number])
    first.measure()
    assert "scancel 1 2 3 4" in first.stopped
    (jobs / "2.state").write_text("RUNNING")
    (jobs / "3.state").write_text("CANCELLED by 0")
    second = a_pool(out)
    found = [second.start(number, CELLS[number]) for number in range(3)]
    assert [work.job.job_id for work in found] == ["1", "2", "5"]
    assert second.measure().job.job_id == "4"
    (jobs / "5.state").write_text("FAILED")
    third = a_pool(out)
    assert third.start(2, CELLS[2]).job.job_id == "6", "the last job of a run counts"
    assert len(states(jobs)) == 6


def test_a_job_without_a_log_complains_of_its_state(tmp_path: Path, jobs: Path) -> None:
    work = a_pool(tmp_path / "out").start(0, CELLS[0])
    (jobs / "1.state").write_text("OUT_OF_MEMORY")
    submitit.SlurmJob.watcher.clear()
    assert work.has_ended()
    assert "OUT_OF_MEMORY" in work.complaint()
    work.log.write_text("Traceback\n  line\nValueError: wrong\n")
    assert work.complaint().endswith("ValueError: wrong")


def test_a_refused_job_is_an_error_with_the_clusters_words(tmp_path: Path, jobs: Path) -> None:
    sbatch = jobs.parent / "bin" / "sbatch"
    sbatch.write_text("#!/bin/sh\necho 'sbatch: error: invalid partition specified: gpuu' >&2\nexit 1\n")
    with pytest.raises(DetdistillError) as problem:
        a_pool(tmp_path / "out", partition="gpuu").start(0, CELLS[0])
    assert "invalid partition specified: gpuu" in str(problem.value)


def test_a_machine_without_slurm_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DetdistillError) as problem:
        a_pool(tmp_path / "out")
    assert "srun" in str(problem.value)


def test_without_submitit_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(DetdistillError) as problem:
        a_pool(tmp_path / "out")
    assert "pip install 'detdistill[cluster]'" in str(problem.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("time", 0),
        ("time", 1.5),
        ("gpus", -1),
        ("cpus", 0),
        ("memory", 0.0),
        ("memory", float("inf")),
        ("requeue", -1),
        ("partition", "a b"),
        ("partition", ""),
        ("account", "a\n#SBATCH --uid=0"),
        ("account", "a\n"),
        ("executor", "pbs"),
        ("nodes", 2),
    ],
)
def test_wrong_values_are_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(SettingsError) as problem:
        Cluster(**{"time": 60, name: value})  # type: ignore[arg-type]
    assert name in problem.value.problems


def test_the_time_limit_is_required() -> None:
    with pytest.raises(SettingsError) as problem:
        Cluster()  # type: ignore[call-arg]
    assert "time" in problem.value.problems
