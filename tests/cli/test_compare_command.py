from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.cli import main

RECIPE = "distill: {teacher: t}\ndata: {path: d}\n"


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_the_runs_are_listed_and_none_is_made(file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert main(["compare", file, "--methods", "hint,rm+pfi", "--seeds", "2", "--out", str(out), "--list"]) == 0
    listed = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in listed] == ["0", "1", "2", "3", "4", "5"]
    assert listed[5][1:] == ["mine, rm+pfi, seed 1", str(out / "mine" / "rm+pfi" / "1")]
    assert not out.exists()


@pytest.mark.parametrize(
    ("words", "status", "named"),
    [
        (("--cell", "4"), 2, "cell is 4"),
        (("--jobs", "0"), 2, "jobs is 0"),
        (("--threads", "0"), 2, "threads is 0"),
        (("--threads", "0", "--cell", "0"), 2, "threads"),
        (("--methods", "htin"), 1, "method htin"),
        (("--report-on", "train"), 1, "'train'"),
        (("--seeds", "0"), 1, "seed"),
        (("--partition", "gpu", "--requeue", "2"), 2, "--partition, --requeue"),
        (("--cluster", "slurm"), 2, "time"),
        (("--cluster", "pbs", "--time", "60"), 2, "--cluster"),
        (("--cluster", "slurm", "--time", "0"), 2, "time"),
        (("--cluster", "slurm", "--time", "4:00:00"), 2, "--time"),
        (("--cluster", "slurm", "--time", "60", "--gpus", "-1"), 2, "gpus"),
        (("--cluster", "slurm", "--time", "60", "--cpus", "0"), 2, "cpus"),
        (("--cluster", "slurm", "--time", "60", "--memory", "0"), 2, "memory"),
        (("--cluster", "slurm", "--time", "60", "--memory", "nan"), 2, "memory"),
        (("--cluster", "slurm", "--time", "60", "--requeue", "-1"), 2, "requeue"),
        (("--cluster", "slurm", "--time", "60", "--partition", "a b"), 2, "partition"),
        (("--cluster", "slurm", "--time", "60", "--partition", ""), 2, "partition"),
        (("--cluster", "slurm", "--time", "60", "--account", "a\n#SBATCH --uid=0"), 2, "account"),
        (("--cluster", "slurm", "--time", "60", "--jobs", "2"), 2, "jobs is 2"),
        (("--cluster", "slurm", "--time", "60", "--cell", "0"), 2, "--cell"),
    ],
)
def test_mistakes_are_refused_before_anything_is_computed(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], status: int, named: str
) -> None:
    out = tmp_path / "out"
    assert main(["compare", file, "--out", str(out), *words]) == status
    assert named in capsys.readouterr().err
    assert not out.exists()


def test_a_teacher_that_is_not_there_is_told_before_any_run(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", file, "--out", str(tmp_path / "out")]) == 1
    assert "no such file or folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
