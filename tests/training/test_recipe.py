from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.cli import build_app
from detdistill.cli.distill_command import Distill
from detdistill.cli.parser import parse
from detdistill.cli.train_command import Train
from detdistill.core.errors import SettingsError
from detdistill.core.image_options import ImageOptions
from detdistill.core.settings import to_values
from detdistill.detectors.dense.architecture import Architecture, BiFeaturePyramid, TorchvisionArchitecture, Towers
from detdistill.distill.building import build_terms
from detdistill.training.distillation_settings import Distillation
from detdistill.training.recipe import Data, Evaluation, Logging, Machine, Optimization, Recipe, Schedule, Start
from detdistill.training.recipe_file import differences, read_recipe, recipe_from, recipe_of, resolved, write_recipe

OTHER = Recipe(
    data=Data("some/data", val=None, difficult=True),
    detector=Architecture("fcos", towers=Towers(depth=2), strides=(4, 8), options={"giou": True}),
    start=Start("runs/other", frozen_stages=1),
    images=ImageOptions(letterbox=320, scale_jitter=(0.5, 1.5)),
    optimization=Optimization("adamw", learning_rate=1e-5, clip_norm=None, ema=0.999),
    schedule=Schedule(milestones=()),
    logging=Logging(loggers=("csv",)),
    seed=3,
)
TAUGHT = replace(OTHER, distill=Distillation("t", {"hint": {"weight": 0.5}}, class_map={"no": "1e3"}, memory=3))
ROUND = replace(OTHER, detector=TorchvisionArchitecture("fcos_resnet50_fpn", 1e-5))


def from_words(*words: str) -> Recipe:
    verb = parse(build_app(), ["train", "--out", "run", *words])
    assert isinstance(verb, Train)
    return verb.read()


def as_words(values: Any, prefix: str = "--") -> list[str]:
    """Every value of a recipe as an option."""
    words: list[str] = []
    for key, value in values.items():
        if isinstance(value, dict) and value and key not in ("options", "towers", "terms", "class_map"):
            words += as_words(value, f"{prefix}{key}.")
        else:
            words.append(f"{prefix}{key}={value if isinstance(value, str) else json.dumps(value)}")
    return words


@pytest.mark.parametrize("recipe", [Recipe(Data("x")), OTHER, TAUGHT, ROUND])
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
        ("data: {path: x}\nschedule: {epochs: many}", "schedule.epochs must be an integer, not 'many'"),
        ("data: {path: x}\nschedule: {epochs: '3'}", "schedule.epochs must be an integer, not '3'"),
        ("data: {path: x}\nschedule: {epochs: true}", "schedule.epochs must be an integer, not true"),
        ("data: {path: x}\nschedule: {epochs: 3.0}", "schedule.epochs must be an integer, not 3.0"),
        ("data: {path: x}\nschedule: {decay: cosin}", "did you mean cosine?"),
        ("data: {path: x}\noptimization: {ema: half}", "optimization.ema must be a number or null, not 'half'"),
        ("data: {path: x}\nlogging:", "logging must be a group of keys (every, save_every, loggers, page), not null"),
        ("data: {path: x}\nlogging: 3", "logging must be a group of keys (every, save_every, loggers, page), not 3"),
        ("data: {path: x}\ndetector: {towers: [3]}", "detector.towers must be a group of keys (channels, depth, "),
        ("data: {path: x}\ndetector: 3", "detector must be a group of keys"),
        ("data: {path: x}\ndetector: {kind: gfll}", "detector.kind must be one of retinanet, fcos, "),
        ("data: {path: x}\ndetector: {kind: torchvision}", "detector.name is missing"),
        ("data: {path: x}\ndetector: {kind: torchvision, name: fcos_resnet50}", "did you mean fcos_resnet50_fpn?"),
        ("data:", "data must be a group of keys (path, train, "),
        ("data: {path: x}\nbatch_size:", "batch_size must be an integer, not null"),
        ("data: {path: x}\ndetector: {towers: {dpth: 3}}", "there is no key 'detector.towers.dpth'"),
        ("data: {path: x}\ndetector: {towers: {depth: x}}", "detector.towers.depth must be an integer"),
        ("data: {path: x}\ndetector: {towers: {depth: -1}}", "detector.towers.depth must be"),
        ("data: {path: x}\ndetector: {pyramid: {channels: 0}}", "detector.pyramid.channels must be"),
        ("data: {path: x}\ndetector: {pyramid: {kind: bfpn}}", "detector.pyramid.kind must be one of fpn, bifpn, not"),
        ("data: {path: x}\ndetector: {pyramid: {kind: bifpn, repeats: 0}}", "detector.pyramid.repeats must be"),
        ("data: {path: x}\ndetector: {pyramid: {repeats: 2}}", "there is no key 'detector.pyramid.repeats'"),
        ("data: {path: x}\ndetector: {kind: efficientdet, preset: d8}", "detector.preset must be one of d0, d1, "),
        ("data: {path: x}\ndetector: {kind: efficientdet, preset: [d0]}", "detector.preset must be one of d0, d1, "),
        ("data: {path: x}\ndetector: {kind: efficientdet, towers: {depth: x}}", "detector.towers.depth must be"),
        ("data: {path: x}\ndetector: {preset: d0}", "preset d0 is a size of EfficientDet, and kind is gfl"),
        ("data: {path: x}\ndetector: {strides: [8, x]}", "detector.strides[1] must be an integer, not 'x'"),
        ("data: {path: x}\nimages: {short_side: 900, long_side: 800}", "images: long_side must be at least"),
        ("data: {path: x}\ndistill: {terms: {hint: {}}}", "distill.teacher is missing"),
        ("data: {path: x}\ndistill: {teacher: t, terms: {hint: 3}}", "distill.terms.hint must be keys and values"),
        ("data: {path: x}\n1: 2", "there is no key '1'"),
        ("seed: 1", "data is missing"),
        ("- a\n- b", "not a recipe"),
        ("data: {path: x", "line 1, column 7"),
        ("data: {path: x}\nschedule: {epochs: 0}", "schedule.epochs"),
        ("data: {path: x}\nseed: 1\nseed: 2", "duplicate key 'seed' (lines 2 and 3)"),
    ],
)
def test_mistakes_in_a_file_name_the_key(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(SettingsError) as refused:
        read_recipe(tmp_path / "recipe.yaml")
    assert said in str(refused.value)
    assert "recipe.yaml" in str(refused.value)


@pytest.mark.parametrize(
    ("images", "letterbox"),
    [
        ({}, 640),
        ({"flip": 0.0}, 640),
        ({"letterbox": 256}, 256),
        ({"short_side": 300, "long_side": 400}, None),
        ({"canvas": [320, 480]}, None),
    ],
)
def test_images_without_a_size_have_the_presets(images: dict[str, Any], letterbox: int | None) -> None:
    values = {"data": {"path": "x"}, "detector": {"kind": "efficientdet", "preset": "d1"}, "images": images}
    recipe = recipe_of(values, "test")
    assert recipe.images.letterbox == letterbox
    assert recipe.images.flip == images.get("flip", 0.5)
    assert recipe_of(to_values(recipe), "test") == recipe
    architecture = Architecture("efficientdet", preset="d1")
    assert recipe_of({**values, "detector": architecture}, "test") == recipe


def test_other_detectors_and_options_keep_their_image_size() -> None:
    assert recipe_of({"data": {"path": "x"}, "detector": {"kind": "gfl"}}, "test").images.letterbox is None
    words = ("--data.path", "x", "--detector.kind", "efficientdet", "--detector.pyramid.repeats", "1")
    recipe = from_words(*words)
    assert isinstance(recipe.detector, Architecture)
    assert isinstance(recipe.detector.pyramid, BiFeaturePyramid)
    assert (recipe.images.letterbox, recipe.detector.pyramid.repeats) == (512, 1)


def test_keys_may_have_dashes_as_other_options_do() -> None:
    words = ("--data.path", "x", "--batch-size", "4", "--schedule.warmup-steps=3", "--data.val-images", "a_b-c")
    data = Data("x", val_images="a_b-c")
    assert from_words(*words) == Recipe(data, batch_size=4, schedule=Schedule(warmup_steps=3))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent.yaml: cannot be read: No such file"):
        read_recipe(tmp_path / "absent.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="not a text file"):
        read_recipe(tmp_path / "bytes.yaml")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: replace(Recipe(Data("x")), batch_size=0), "batch_size"),
        (
            lambda: Recipe(Data("x"), batch_size=6, accumulate=2, machine=Machine(devices=2)),
            r"batch_size must be a multiple of 4 .*not 6",
        ),
        (lambda: Recipe(Data("x", val=None), evaluation=Evaluation(patience=2)), r"evaluation\.patience 2 .*data\.val"),
        (lambda: Optimization(ema=1.0), "ema"),
        (lambda: Optimization(learning_rate=0), "learning_rate"),
        (lambda: Optimization(clip_norm=0), "clip_norm"),
        (lambda: Logging(save_every=0), "save_every"),
        (lambda: Machine(workers=-1), "workers"),
        (lambda: Machine(threads=0), "threads"),
        (lambda: Machine(threads="all"), "threads"),  # type: ignore[arg-type]
        (lambda: Machine(precision="half"), "precision"),  # type: ignore[arg-type]
        (lambda: Schedule(epochs=0), "epochs"),
        (lambda: Distillation("t", terms={}), "terms"),
        (lambda: Distillation("t", ratio=0), "ratio"),
    ],
)
def test_values_out_of_range(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        make()


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


MACHINES = st.builds(
    Machine, precision=st.sampled_from(["auto", "float32", "bf16"]), threads=st.sampled_from(["auto", 1, 2])
)


@settings(max_examples=30, deadline=None)
@given(MACHINES, MACHINES)
def test_auto_differs_from_no_value(own: Machine, kept: Machine) -> None:
    recipe, before = Recipe(Data("x"), machine=own), Recipe(Data("x"), machine=kept)
    found = resolved(recipe, before)
    expected = {
        key
        for key in ("precision", "threads")
        if "auto" not in (getattr(own, key), getattr(kept, key)) and getattr(own, key) != getattr(kept, key)
    }
    assert {key.removeprefix("machine.") for key in differences(before, recipe)} == expected
    assert differences(before, recipe).keys() == differences(recipe, before).keys()
    assert resolved(found, before) == found
    assert replace(found, machine=own) == recipe
    for key in ("precision", "threads"):
        asked = getattr(own, key)
        assert getattr(found.machine, key) == (getattr(kept, key) if asked == "auto" else asked)


def test_threads_are_a_number_or_auto() -> None:
    for value in ("auto", 3):
        made = recipe_of({"data": {"path": "x"}, "machine": {"threads": value}}, "here")
        assert made.machine.threads == value
        assert recipe_of(to_values(made), "here") == made


RECIPES = Path(__file__).parents[2] / "recipes"


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_the_recipes_of_the_repository_are_for_their_verb(file: Path) -> None:
    recipe = read_recipe(file)
    verb = parse(build_app(), ["distill" if "distill" in file.stem else "train", str(file), "--out", "run"])
    assert isinstance(verb, Train | Distill)
    assert verb.read() == recipe
    assert (recipe.distill is not None) == ("distill" in file.stem)
    if recipe.distill is not None:
        taught = recipe.distill
        terms, _ = build_terms(taught.terms, weight=taught.weight, ratio=taught.ratio, detector=recipe.detector.name)
        assert terms.keys() == taught.terms.keys()


def test_a_recipe_of_a_dataset_and_settings(tmp_path: Path) -> None:
    found = recipe_from(tmp_path, {"schedule": {"epochs": 3}, "images": ImageOptions(letterbox=64), "batch_size": 8})
    assert found.data.path == str(tmp_path)
    assert (found.schedule, found.batch_size) == (Schedule(3), 8)
    assert found.images == ImageOptions(letterbox=64)
    assert recipe_from(OTHER, {}) is OTHER
    changed = recipe_from(OTHER, {"optimization": {"betas": (0.5, 0.6)}, "seed": 4})
    assert changed == replace(OTHER, optimization=replace(OTHER.optimization, betas=(0.5, 0.6)), seed=4)
    with pytest.raises(SettingsError, match=r"did you mean schedule\.epochs"):
        recipe_from(tmp_path, {"schedule": {"epoch": 3}})
