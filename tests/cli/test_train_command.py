from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from detdistill.training.recipe import Logging
from detdistill.training.recipe_file import write_recipe
from support.small_runs import small_recipe, state, write_boxes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def command(*words: str) -> subprocess.Popen[str]:
    program = "import sys, torch; torch.set_num_threads(1); from detdistill.cli import main; sys.exit(main())"
    return subprocess.Popen([sys.executable, "-c", program, *words], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 143), pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow)]
)
def test_the_command_stops_with_the_shells_status_and_goes_on(
    number: int, status: int, data: Path, tmp_path: Path
) -> None:
    """The whole group gets the signal, the loading processes too."""
    recipe = small_recipe(data, epochs=400, workers=1, logging=Logging(every=1, page=False))
    words = ["train", "--recipe", str(tmp_path / "recipe.yaml"), "--out", str(tmp_path / "run")]
    write_recipe(replace(recipe, data=replace(recipe.data, val=None)), tmp_path / "recipe.yaml")
    running = command(*words)
    assert running.stderr is not None
    said = ""
    while "step 5/" not in said:
        said = running.stderr.readline()
        assert said, "the command ended"
    os.kill(running.pid, number)
    rest = running.stderr.read()
    assert running.wait() == status
    assert "everything is saved: the same command goes on from there" in rest
    stopped = state(tmp_path / "run")["step"]
    again = command(*words)
    assert again.stderr is not None
    assert f"{stopped} of 800 done" in again.stderr.readline()
    assert f"step {stopped + 1}/" in again.stderr.readline()
    again.kill()
    again.wait()
    again.stderr.close()
