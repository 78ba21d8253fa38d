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
    ("words", "message"),
    [
        (("--cell", "4"), "--cell 4: the comparison has the runs 0 to 1; --list shows them"),
        (("--jobs", "0"), "--jobs and --threads must be at least 1, not 0 and 1"),
        (("--methods", "htin"), "method htin: distill.terms: there is no method 'htin'"),
        (("--report-on", "train"), "the split 'train' is trained on"),
        (("--seeds", "0"), "and a seed"),
    ],
)
def test_mistakes_are_told(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert main(["compare", file, "--out", str(tmp_path / "out"), *words]) == 1
    assert message in capsys.readouterr().err


def test_a_teacher_that_is_not_there_is_told_before_any_run(
    file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", file, "--out", str(tmp_path / "out")]) == 1
    assert "t" in capsys.readouterr().err
    assert not (tmp_path / "out" / "logs").exists()
