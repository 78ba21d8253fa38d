from __future__ import annotations

import itertools
import os
import re
import signal
from pathlib import Path

import pytest

from detdistill.training.interruption import Interrupted
from detdistill.training.recipe import Recipe
from detdistill.training.run import train
from support.small_runs import at_step, small_recipe, write_boxes


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seconds pass between one look at the clock and the next."""
    ticks = itertools.count(10_000, 2)
    monkeypatch.setattr("detdistill.training.progress_line.time.perf_counter", lambda: float(next(ticks)))


@pytest.fixture
def recipe(tmp_path: Path) -> Recipe:
    return small_recipe(write_boxes(tmp_path / "data"))


def test_plain_lines_say_everything(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train(recipe, tmp_path / "run")
    said = [line for line in capsys.readouterr().err.splitlines() if "images/s" in line]
    assert len(said) == 6
    assert said[2].startswith("epoch 2/3, step 3/6, 2.0 images/s, 0:00:06 left, loss ")
    assert all(f"{term} " in said[2] for term in ("classification", "box", "distribution"))


def test_a_resumed_run_has_its_own_speed(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes on inside an epoch, which it does not start."""
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run")
    capsys.readouterr()
    train(recipe, tmp_path / "run")
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first.endswith("8 images, 2 steps an epoch, 3 of 6 done")
    assert second.startswith("epoch 2/3, step 4/6, 2.0 images/s, 0:00:04 left, loss ")


def test_a_terminal_gets_one_live_line(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("TERM", "xterm")
    train(recipe, tmp_path / "run")
    said = capsys.readouterr().err
    assert re.search(r"epoch 3/3, step 6/6, 2\.0 images/s, 0:00:00 left, loss", said)
    assert "\x1b[?25l" in said, "the cursor is hidden while the line lives"
    assert said.rindex("\x1b[?25h") > said.rindex("\x1b[?25l"), "and shown again"
