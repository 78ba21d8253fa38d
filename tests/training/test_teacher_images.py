"""A distillation whose teacher reads images of a size of its own, from the recipe to the run folder."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.cli import main
from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.image_options import ImageOptions
from detdistill.core.teacher_size import TeacherSize
from detdistill.training.distillation_settings import Distillation
from detdistill.training.interruption import Interrupted
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe, recipe_from, write_recipe
from detdistill.training.run import check, distill
from support.small_runs import (
    assert_equal_runs,
    at_step,
    lines,
    small_distillation,
    taught_otherwise,
    write_boxes,
    write_teacher,
)

TWICE = TeacherSize(letterbox=128)
BY_OPINION: dict[str, dict[str, Any]] = {"soft_label": {"source": "opinion"}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def recipe(data: Path, teacher: Path) -> Recipe:
    return small_distillation(data, teacher, epochs=1, teacher_images=TWICE)


@pytest.fixture
def unscored(recipe: Recipe) -> Recipe:
    """Without a validation set: two steps and little else."""
    return replace(recipe, data=replace(recipe.data, val=None))


class Recording:
    """A box in each image; the canvases that it was shown."""

    classes = ("green", "red")

    def __init__(self) -> None:
        self.canvases: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor, sizes: Tensor) -> list[dict[str, Any]]:
        self.canvases.append(tuple(images.shape[2:]))
        return [
            {"boxes": torch.tensor([[0.0, 0, width / 2, height / 2]]), "scores": [0.9], "labels": [0]}
            for height, width in sizes.tolist()
        ]


def test_check_says_ratio_levels_and_cost(recipe: Recipe) -> None:
    said = check(recipe)
    for words in (
        "distill.teacher_images: the teacher's images are 2 times as large as the student's (letterbox 128)",
        "about 4 times as much",
        "strides 8, 16, 32, 64 of the student are compared with strides 16, 32, 64, 128 of the teacher",
    ):
        assert words in said
    assert "distill.teacher_images" not in check(taught_otherwise(recipe, teacher_images=None))


def test_every_image_that_the_teacher_reads_has_its_size(recipe: Recipe, tmp_path: Path) -> None:
    """In the example, the preflight, its scores, and all steps."""
    seen = Recording()
    distill(taught_otherwise(recipe, terms=BY_OPINION), seen, tmp_path / "run")
    example, *others = seen.canvases
    assert example == (128, 128)
    assert len(others) > 4
    assert set(others) == {(128, 128)}
    assert all(line["soft_label/raw"] > 0 for line in lines(tmp_path / "run") if "loss" in line)


def test_a_size_that_is_the_students_changes_nothing(unscored: Recipe, tmp_path: Path) -> None:
    for name, size in (("none", None), ("same", TeacherSize(letterbox=64)), ("twice", TWICE)):
        distill(taught_otherwise(unscored, teacher_images=size), None, tmp_path / name)
    weights = {name: (tmp_path / name / "model.safetensors").read_bytes() for name in ("none", "same", "twice")}
    assert weights["same"] == weights["none"]
    assert lines(tmp_path / "same") == lines(tmp_path / "none")
    assert weights["twice"] != weights["none"]


def test_parts_of_a_batch_have_their_own_images(unscored: Recipe, tmp_path: Path) -> None:
    frozen = replace(unscored, start=replace(unscored.start, batch_norm="frozen"))
    given = taught_otherwise(frozen, terms={"hint": {"weight": 1.0}})
    distill(given, None, tmp_path / "whole")
    distill(replace(given, accumulate=2), None, tmp_path / "parts")
    whole, parts = ([line for line in lines(tmp_path / name) if "loss" in line] for name in ("whole", "parts"))
    assert [line["hint"] for line in parts] == pytest.approx([line["hint"] for line in whole], rel=1e-4)


@pytest.mark.parametrize("memory", [0, 100])
def test_stored_boxes_have_no_use_for_it(data: Path, tmp_path: Path, memory: int) -> None:
    file = tmp_path / "found.json"
    boxes = [{"image_id": image, "category_id": 1, "bbox": [3, 4, 20, 30], "score": 0.5} for image in range(8)]
    file.write_text(json.dumps(boxes))
    taught = small_distillation(data, file, terms=BY_OPINION, memory=memory, teacher_images=TWICE)
    said = check(taught)
    assert "distill.teacher_images: of no use here" in said
    assert "times as large" not in said
    assert check(taught_otherwise(taught, teacher_images=None)) in said


@pytest.mark.parametrize(
    ("images", "given", "names"),
    [
        (ImageOptions(96, 96), {"short_side": 192, "long_side": 250}, ("long_side 250", "long_side 192")),
        (ImageOptions(96, 96), {"letterbox": 192}, ("letterbox 192", "short_side 192")),
        (ImageOptions(letterbox=64), {"short_side": 128}, ("short_side 128", "letterbox 128")),
        (ImageOptions(96, 96), {"short_side": 20}, ("short_side", "32", "20")),
        (ImageOptions(96, 96), {}, ("short_side", "letterbox")),
        (ImageOptions(96, 96), {"side": 192}, ("side",)),
    ],
)
def test_wrong_sizes_are_refused(data: Path, images: ImageOptions, given: Any, names: tuple[str, ...]) -> None:
    sections = {"images": images, "distill": {"teacher": "t", "teacher_images": given}}
    with pytest.raises(SettingsError) as refused:
        recipe_from(str(data), sections)
    for name in ("distill.teacher_images", *names):
        assert name in str(refused.value)


def test_levels_that_do_not_meet_are_refused_before_training(recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"distill\.teacher_images.*letterbox 128 \(ratio 2\)"):
        distill(taught_otherwise(recipe, teacher_images=TeacherSize(letterbox=96)), None, tmp_path / "run")


def test_the_command_line_sets_it(recipe: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    write_recipe(taught_otherwise(recipe, teacher_images=None), file)
    assert main(["check", str(file), "--distill.teacher_images.letterbox", "128"]) == 0
    assert "(letterbox 128)" in capsys.readouterr().out
    assert main(["check", str(file), "--distill.teacher_images.letterbox", "96"]) == 1
    assert "distill.teacher_images" in capsys.readouterr().err


def test_a_recipe_file_holds_it(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert Distillation("t", teacher_images=TWICE).teacher_images == TWICE


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_end(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(recipe, machine=replace(recipe.machine, workers=1))
    recipe = replace(recipe, schedule=replace(recipe.schedule, epochs=3))
    distill(recipe, None, tmp_path / "whole")
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            distill(recipe, None, tmp_path / "run")
    distill(recipe, None, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")
