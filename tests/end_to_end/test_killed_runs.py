from __future__ import annotations

import os
import random
import signal
import sys
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from detdistill.training.recipe import Recipe
from detdistill.training.run import distill
from support.processes import FORKS, run_one
from support.small_runs import assert_equal_runs, small_distillation, write_boxes, write_teacher

KILLS = int(os.environ.get("DETDISTILL_KILLS", "6"))
"""Kills at random moments; more make a campaign."""

WRITING = os.O_WRONLY | os.O_RDWR | os.O_APPEND
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    folder = tmp_path_factory.mktemp("boxes")
    data, teacher = write_boxes(folder / "data"), write_teacher(folder / "teacher")
    return small_distillation(data, teacher, epochs=1)


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    distill(recipe, None, folder)
    return folder


def taught(recipe: Recipe, folder: Path) -> None:
    distill(recipe, None, folder)


def killed_at(number: int, recipe: Recipe, folder: Path) -> None:
    """Train in this process, and kill it before one of the operations that change something in the folder."""
    seen = 0

    def look(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        is_change = event in CHANGES or (event == "open" and arguments[2] & WRITING)
        if not is_change or not str(arguments[0]).startswith(str(folder)):
            return
        seen += 1
        if seen == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)
    distill(recipe, None, folder)


@pytest.mark.slow
def test_killed_before_any_change_of_its_folder_a_run_ends_as_if_it_had_not_been(
    recipe: Recipe, whole: Path, tmp_path: Path
) -> None:
    for number in count(1):
        folder = tmp_path / str(number)
        status = run_one(killed_at, number, recipe, folder)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        distill(recipe, None, folder)
        assert_equal_runs(folder, whole)
    assert number > 15, "recipe, metrics, checkpoint, weights, description and summary are written by name"


@pytest.mark.slow
def test_killed_at_random_moments_a_run_ends_as_if_it_had_not_been(recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    moments = random.Random(0)
    begun = time.monotonic()
    assert run_one(taught, recipe, tmp_path / "timed") == 0
    longest = time.monotonic() - begun
    kills = 0
    for number in count():
        folder = tmp_path / str(number)
        while kills < KILLS:
            process = FORKS.Process(target=taught, args=(recipe, folder))
            process.start()
            process.join(moments.uniform(0, longest))
            process.kill()
            process.join()
            if process.exitcode == 0:
                break
            assert process.exitcode == -signal.SIGKILL
            kills += 1
        distill(recipe, None, folder)
        assert_equal_runs(folder, whole)
        if kills == KILLS:
            break
