"""Teachers that are no folders of detectors, through whole runs."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.seeds import derived_seed
from detdistill.data.source import DatasetSource
from detdistill.detectors.storage import read_description
from detdistill.evaluation.storing import store_detections
from detdistill.training.recipe import Machine
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import check, distill
from support.small_runs import small_distillation, small_recipe, write_boxes, write_teacher

BY_BOXES: dict[str, Any] = {"rank_mimicking": {}, "soft_label": {"where": "all"}, "bounded_regression": {}}
CLASSES = "green", "red"


def guess(images: Tensor, sizes: Tensor) -> list[dict[str, Any]]:
    """A box in the middle of each image."""
    found = []
    for pixels, (height, width) in zip(images, sizes.tolist(), strict=True):
        label = derived_seed(int(pixels.sum())) % 2
        found.append({"boxes": [[width / 4, height / 4, width / 2, height / 2]], "scores": [0.7], "labels": [label]})
    return found


guess.classes = CLASSES  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def test_a_function_teaches(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = small_distillation(data, Path("unnamed"), terms=BY_BOXES, epochs=1)
    distill(recipe, guess, tmp_path / "run")
    said = capsys.readouterr().err
    assert "the teacher offers boxes, opinions" in said
    assert "not possible, the teacher offers no features" in said
    assert read_description(tmp_path / "run").provenance["teacher"]["source"].endswith("test_any_teacher.guess")


def test_a_run_with_a_function_goes_on_when_it_is_passed_again(data: Path, tmp_path: Path) -> None:
    options = {"terms": BY_BOXES, "accept_teacher": True}
    distill(small_recipe(data, epochs=1), guess, tmp_path / "run", distill=options)
    named = read_recipe(tmp_path / "run" / "recipe.yaml")
    assert named.distillation.teacher == f"callable:{__name__}.guess"
    with pytest.raises(DetdistillError, match=r"pass it again.*python:package\.module:function"):
        distill(named, None, tmp_path / "other")
    assert distill(named, guess, tmp_path / "run").epochs == 1


def test_a_function_teaches_in_one_process(data: Path, tmp_path: Path) -> None:
    recipe = small_distillation(data, Path("unnamed"), terms=BY_BOXES, machine=Machine(devices=2))
    with pytest.raises(DetdistillError, match=r"python:package\.module:function for machine.devices 2"):
        check(recipe, guess)
    assert not (tmp_path / "run").exists()


def test_several_teachers_are_joined(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = write_teacher(tmp_path / "first"), write_teacher(tmp_path / "second", seed=2)
    recipe = small_distillation(data, first, epochs=1, teacher_weights=(1.0, 0.5))
    distill(recipe, [first, second], tmp_path / "run")
    assert "the boxes of 2 are joined" in capsys.readouterr().err
    assert read_recipe(tmp_path / "run" / "recipe.yaml").distillation.teacher == (str(first), str(second))
    remembered = read_description(tmp_path / "run").provenance["teacher"]
    assert [each["source"] for each in remembered["teachers"]] == [str(first), str(second)]


def test_stored_detections_teach_and_a_run_is_resumed_with_them_only(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size: dict[str, Any] = {"short_side": 64, "long_side": 64}
    store = tmp_path / "boxes"
    store_detections(guess, DatasetSource(data, "train"), store, **size)
    recipe = small_distillation(data, store, terms=BY_BOXES, epochs=1, accept_teacher=True)
    distill(recipe, None, tmp_path / "run")
    said = capsys.readouterr().err
    assert "the teacher offers boxes, opinions" in said
    assert "the teacher is scored on training images" in said
    remembered = read_description(tmp_path / "run").provenance["teacher"]
    assert remembered["source"] == str(store)
    assert remembered["teacher"]["source"].endswith("test_any_teacher.guess")
    shutil.rmtree(store)
    store_detections(guess, DatasetSource(data, "train"), store, floor=0.1, **size)
    longer = replace(recipe, schedule=replace(recipe.schedule, epochs=2))
    with pytest.raises(DetdistillError, match="was started with the teacher"):
        distill(longer, None, tmp_path / "run", resume=True)


@pytest.mark.parametrize("name", ["prediction_guided", "hint", "localization"])
def test_terms_of_maps_are_refused_by_name(name: str, data: Path) -> None:
    recipe = small_distillation(data, Path("unnamed"), terms={name: {}})
    with pytest.raises(DetdistillError, match=f"{name} cannot be used: .*the teacher offers no"):
        check(recipe, guess)


def test_a_teacher_that_is_not_there_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"teacher .*nothing: no such file or folder"):
        check(small_distillation(data, tmp_path / "nothing"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetdistillError, match=r"teacher .*empty is of no known kind"):
        check(small_distillation(data, tmp_path / "empty"))
