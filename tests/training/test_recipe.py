from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from detdistill.cli import COMMANDS, main
from detdistill.cli.distill_command import Distill
from detdistill.cli.parser import parse
from detdistill.cli.train_command import Train
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.detectors.dense.architecture import Architecture, Towers
from detdistill.distill.building import build_terms
from detdistill.training.recipe import (
    Data,
    DistillationRecipe,
    Evaluation,
    Logging,
    Machine,
    Optimization,
    Recipe,
    Schedule,
)
from detdistill.training.recipe_file import differences, read_recipe, write_recipe

OTHER = Recipe(
    data=Data("some/data", val=None, difficult=True),
    detector=Architecture("fcos", towers=Towers(depth=2), strides=(4, 8), options={"giou": True}),
    images=ImageOptions(letterbox=320, scale_jitter=(0.5, 1.5)),
    optimization=Optimization("adamw", learning_rate=1e-5, clip_norm=None, ema=0.999),
    schedule=Schedule(milestones=()),
    logging=Logging(loggers=("csv",)),
    seed=3,
)


def from_words(*words: str) -> Recipe:
    verb = parse(COMMANDS, ["train", "--out", "run", *words])
    assert isinstance(verb, Train)
    return verb.recipe


def as_words(values: Any, prefix: str = "--") -> list[str]:
    """Every value of a recipe as an option."""
    words: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in ("options", "towers"):
            words += as_words(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}")
    return words


@pytest.mark.parametrize("recipe", [Recipe(Data("x")), OTHER])
def test_a_file_and_options_mean_the_same(recipe: Recipe, tmp_path: Path) -> None:
    write_recipe(recipe, tmp_path / "recipe.yaml")
    assert read_recipe(tmp_path / "recipe.yaml") == recipe
    assert from_words("--recipe", str(tmp_path / "recipe.yaml")) == recipe
    assert from_words(*as_words(yaml.safe_load((tmp_path / "recipe.yaml").read_text()))) == recipe


def test_an_option_counts_more_than_the_file_wherever_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("data: {path: x}\nseed: 1\nschedule: {epochs: 5}\noptimization: {learning_rate: 1e-3}\n")
    before = from_words("--schedule.epochs", "7", "--recipe", str(file))
    after = from_words("--recipe", str(file), "--schedule.epochs", "7")
    expected = Recipe(Data("x"), seed=1, schedule=Schedule(7), optimization=Optimization(learning_rate=1e-3))
    assert before == after == expected


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {path: x}\noptimization: {learning_rte: 1}", "did you mean optimization.learning_rate?"),
        ("data: {path: x}\noptimizaton: {learning_rate: 1}", "did you mean optimization?"),
        ("data: {path: x}\nsede: 1", "did you mean seed?"),
        ("data: {path: x}\nschedule: {epochs: many}", "recipe.yaml: schedule.epochs: expected an integer, not many"),
        ("data: {path: x}\nschedule: {decay: cosin}", "did you mean cosine?"),
        ("data: {path: x}\noptimization: {ema: half}", "optimization.ema: expected a number or null, not half"),
        ("data: {path: x}\nlogging:", "recipe.yaml: logging is empty: give it a value, or remove it"),
        ("data: {path: x}\nlogging: 3", "recipe.yaml: logging is a group of keys (every, save_every, loggers"),
        ("data: {path: x}\ndetector: {towers: [3]}", "detector.towers is a group of keys (channels, depth, "),
        ("data:", "recipe.yaml: data is empty"),
        ("data: {path: x}\nbatch_size:", "recipe.yaml: batch_size is empty: give it a value, or remove it"),
        ("data: {path: x}\ndetector: {towers: {dpth: 3}}", "there is no key 'detector.towers.dpth'"),
        ("data: {path: x}\ndetector: {towers: {depth: x}}", "recipe.yaml: detector.towers.depth: expected an integer"),
        ("data: {path: x}\ndetector: {towers: {depth: -1}}", "towers.depth must be at least 0, not -1"),
        ("data: {path: x}\ndetector: {channels: 0}", "channels must be at least 1, not 0"),
        ("data: {path: x}\n1: 2", "recipe.yaml: there is no key '1'"),
        ("seed: 1", "data.path"),
        ("- a\n- b", "recipe.yaml"),
        ("data: {path: x", "recipe.yaml"),
        ("data: {path: x}\nschedule: {epochs: 0}", "schedule.epochs"),
    ],
)
def test_mistakes_in_a_file_name_the_key(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(DetdistillError) as refused:
        read_recipe(tmp_path / "recipe.yaml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "data: {path: x}\nseed: 1\nschedule:\n  epochs: 3\nseed: 2",
            "the key 'seed' of line 2 stands again in line 5",
        ),
        ("data: {path: x}\nschedule: {epochs: 3, epochs: 4}", "the key 'epochs' of line 2 stands again in line 2"),
        (
            "detector: {towers: {depth: 1,\n depth: 1}}\ndata: {path: x}",
            "the key 'depth' of line 1 stands again in line 2",
        ),
    ],
)
def test_a_key_that_stands_twice(text: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(text)
    with pytest.raises(DetdistillError, match=re.escape(f"recipe.yaml: {said}")):
        read_recipe(file)
    assert main(["train", "--recipe", str(file), "--out", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_keys_may_have_dashes_as_other_options_do() -> None:
    words = ("--data.path", "x", "--batch-size", "4", "--schedule.warmup-steps=3", "--data.val-images", "a_b-c")
    data = Data("x", val_images="a_b-c")
    assert from_words(*words) == Recipe(data, batch_size=4, schedule=Schedule(warmup_steps=3))


def test_a_recipe_may_stand_in_the_place_of_its_file() -> None:
    assert from_words("--recipe", "{data: {path: x}, seed: 3}") == Recipe(Data("x"), seed=3)


def test_a_key_of_another_group_may_stand_twice(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("data: {path: x}\nevaluation: {every: 3}\nlogging: {every: 3}")
    assert read_recipe(tmp_path / "recipe.yaml").logging.every == 3


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"absent.yaml cannot be read: No such file"):
        read_recipe(tmp_path / "absent.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DetdistillError, match="not a text file"):
        read_recipe(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 0}, "batch_size"),
        (
            {"batch_size": 6, "accumulate": 2, "machine": Machine(devices=2)},
            "batch_size 6 must divide into 2 processes",
        ),
        ({"evaluation": Evaluation(patience=2), "data": Data("x", val=None)}, "needs a validation set"),
        ({"optimization": Optimization(ema=1.0)}, "optimization.ema"),
        ({"optimization": Optimization(learning_rate=0)}, "optimization.learning_rate"),
        ({"optimization": Optimization(clip_norm=0)}, "optimization.clip_norm"),
        ({"logging": Logging(save_every=0)}, "logging.save_every"),
        ({"machine": Machine(workers=-1)}, "machine.workers must not be negative, but is -1"),
        ({"schedule": Schedule(epochs=0)}, "schedule.epochs must be at least 1, not 0"),
    ],
)
def test_values_out_of_range(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DetdistillError, match="the recipe cannot be followed") as refused:
        replace(Recipe(Data("x")), **changes)
    assert said in str(refused.value)


def test_differences_by_key() -> None:
    old = Recipe(Data("x"))
    assert differences(old, old) == {}
    new = replace(
        old, seed=4, schedule=Schedule(24, milestones=(16, 22)), detector=Architecture(towers=Towers(depth=2))
    )
    found = differences(old, new)
    assert found["seed"] == "0 -> 4"
    assert found["schedule.epochs"] == "12 -> 24"
    assert found["schedule.milestones"] == "[8, 11] -> [16, 22]"
    assert found["detector.towers.depth"] == "None -> 2"


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_recipes_of_the_repository_are_for_their_verb(file: Path) -> None:
    recipe = read_recipe(file)
    verb = parse(COMMANDS, ["distill" if "distill" in file.stem else "train", str(file), "--out", "run"])
    assert isinstance(verb, Train | Distill)
    assert verb.recipe == recipe
    if isinstance(recipe, DistillationRecipe):
        terms, _ = build_terms(recipe.terms, weight=recipe.weight, ratio=recipe.ratio, detector=recipe.detector.head)
        assert terms.keys() == recipe.terms.keys()
