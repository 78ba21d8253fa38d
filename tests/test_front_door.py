"""What `from detdistill import …` offers."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import detdistill
from detdistill import distill, load, train
from detdistill.core.errors import SettingsError
from detdistill.training import run
from detdistill.training.recipe_file import read_recipe
from support.small_runs import small_distillation, small_recipe, write_boxes, write_teacher

TINY = {"kind": "gfl", "backbone_width": 0.125, "pyramid": {"channels": 16}, "towers": {"depth": 1}}
SHORT = {"epochs": 1, "warmup_steps": 1}
HERE = {"accelerator": "cpu", "workers": 0}


def test_importing_it_and_its_rooms_imports_no_torch() -> None:
    code = (
        "import sys, detdistill, detdistill.distill; from detdistill import distill, load, train; "
        "assert callable(distill) and distill is detdistill.distill; "
        "assert not {'torch', 'numpy', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_function_keeps_its_name_beside_the_room() -> None:
    from detdistill.distill.view import View

    assert inspect.isfunction(detdistill.distill)
    assert inspect.isclass(View)


@pytest.mark.parametrize(("outer", "inner"), [(train, run.train), (distill, run.distill)])
def test_signatures_are_those_of_the_functions_behind(outer: object, inner: object) -> None:
    parameters = [list(inspect.signature(function).parameters) for function in (outer, inner)]  # type: ignore[arg-type]
    assert parameters[0] == parameters[1]


def test_a_dataset_and_sections_make_a_run(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    summary = train(
        data, tmp_path / "run", detector=TINY, images={"letterbox": 64}, schedule=SHORT, batch_size=4, machine=HERE
    )
    assert summary.epochs == 1
    recipe = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert (recipe.data.path, recipe.batch_size, recipe.schedule.epochs) == (str(data), 4, 1)
    assert load(tmp_path / "run").classes == ("green", "red")
    again = train(recipe, tmp_path / "run")
    assert again == summary


def test_a_teacher_and_sections_make_a_distillation(tmp_path: Path) -> None:
    data, teacher = write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher")
    recipe = small_recipe(data, epochs=1)
    section = {"terms": {"hint": {}}, "accept_teacher": True}
    distill(recipe, teacher, tmp_path / "run", distill=section)
    found = read_recipe(tmp_path / "run" / "recipe.yaml").distillation
    assert (found.teacher, found.terms) == (str(teacher), {"hint": {}})
    distill(recipe, load(teacher), tmp_path / "module", distill=section)
    assert read_recipe(tmp_path / "module" / "recipe.yaml").distillation.teacher == "DenseDetector"


def test_what_is_wrong_is_a_settings_error(tmp_path: Path) -> None:
    data = tmp_path / "data"
    with pytest.raises(SettingsError, match=r"did you mean schedule\.epochs"):
        train(data, tmp_path / "run", schedule={"epoch": 3})
    with pytest.raises(SettingsError, match=r"distill section.*detdistill\.distill"):
        train(small_distillation(data, tmp_path), tmp_path / "run")
    with pytest.raises(SettingsError, match=r"no distill section.*distill\.teacher"):
        distill(small_recipe(data), None, tmp_path / "run")
    assert not (tmp_path / "run").exists()
