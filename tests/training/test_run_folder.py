from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detdistill.errors import DetdistillError
from detdistill.training.recipe import Data, Recipe
from detdistill.training.run_folder import RunFolder

RECIPE = Recipe(data=Data("anywhere"))


def test_a_recipe_that_failed_before_its_first_checkpoint_blocks_no_other(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare(RECIPE, resume=False, overwrite=False)
    run.log(step=1)
    run.prepare(replace(RECIPE, seed=1), resume=False, overwrite=False)
    assert "seed: 1" in run.recipe.read_text()
    assert not run.metrics.exists()


def test_a_folder_with_anything_else_in_it_does(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare(RECIPE, resume=False, overwrite=False)
    (run.path / "model.json").write_text("{}")
    with pytest.raises(DetdistillError, match=r"seed: 0 -> 1"):
        run.prepare(replace(RECIPE, seed=1), resume=False, overwrite=False)
    assert (run.path / "model.json").exists()


def test_a_run_with_a_checkpoint_does(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.prepare(RECIPE, resume=False, overwrite=False)
    run.checkpoint.write_bytes(b"state")
    with pytest.raises(DetdistillError, match=r"seed: 0 -> 1"):
        run.prepare(replace(RECIPE, seed=1), resume=False, overwrite=False)
    run.prepare(RECIPE, resume=False, overwrite=False)
    assert run.checkpoint.read_bytes() == b"state"


def test_a_run_is_finished_for_its_own_recipe_only(tmp_path: Path) -> None:
    """A process that is told to go on with more epochs must not take the old summary for its own."""
    run = RunFolder(tmp_path / "run")
    assert not run.is_finished(RECIPE)
    run.prepare(RECIPE, resume=False, overwrite=False)
    assert not run.is_finished(RECIPE)
    run.checkpoint.write_bytes(b"state")
    run.summary.write_text("{}")
    longer = replace(RECIPE, schedule=replace(RECIPE.schedule, epochs=24))
    assert run.is_finished(RECIPE)
    assert not run.is_finished(longer)
    run.prepare(longer, resume=True, overwrite=False)
    assert not run.is_finished(longer)
