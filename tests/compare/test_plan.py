from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from detdistill.compare.plan import BASELINE, Cell, Plan, named_methods, read_plan
from detdistill.core.errors import DetdistillError
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.training.distillation_settings import Distillation
from detdistill.training.recipe import Data, Recipe

RECIPE = {"distill": {"teacher": "t"}, "data": {"path": "d", "val": "val"}, "detector": {"kind": "gfl"}, "seed": 7}


def write(folder: Path, values: Any, name: str = "plan.yaml") -> Path:
    file = folder / name
    file.write_text(yaml.safe_dump(values))
    return file


def plan(**changes: Any) -> Plan:
    values = {
        "settings": {"a": Recipe(Data("d"), distill=Distillation("t"))},
        "methods": {BASELINE: {}, "hint": {"hint": {}}},
    }
    return Plan(**{**values, "seeds": (0, 1), "report_on": "test", **changes})


def test_a_recipe_is_a_plan_of_one_setting(tmp_path: Path) -> None:
    found = read_plan(write(tmp_path, RECIPE, "mine.yaml"), methods="soft_label,rm+pfi", seeds=2)
    assert list(found.settings) == ["mine"]
    assert found.methods == {
        BASELINE: {},
        "soft_label": {"soft_label": {}},
        "rm+pfi": {"rank_mimicking": {}, "prediction_guided": {}},
    }
    assert found.seeds == (0, 1)
    assert len(found.cells()) == 6


def test_settings_change_the_shared_recipe(tmp_path: Path) -> None:
    write(tmp_path, RECIPE, "shared.yaml")
    settings = {
        "gfl": None,
        "retina": {"detector": {"kind": "retinanet"}, "distill": {"teacher": "u"}, "batch_size": 4},
    }
    methods = {"square": {"prediction_guided": {"form": "square"}}}
    values = {"recipe": "shared.yaml", "settings": settings, "methods": methods, "seeds": [3, 5], "report_on": "test"}
    found = read_plan(write(tmp_path, values))
    assert found.settings["gfl"].detector.kind == "gfl"
    assert found.settings["retina"].detector.kind == "retinanet"
    assert (found.settings["retina"].distillation.teacher, found.settings["retina"].batch_size) == ("u", 4)
    assert found.settings["retina"].data.path == "d"
    assert (found.seeds, found.report_on, list(found.methods)) == ((3, 5), "test", [BASELINE, "square"])
    assert read_plan(tmp_path / "plan.yaml", teacher="v", data="e").settings["retina"].distillation.teacher == "v"
    assert read_plan(tmp_path / "plan.yaml", teacher="v", data="e").settings["gfl"].data == Data("e", val="val")


def test_settings_give_the_teacher_images_of_another_size(tmp_path: Path) -> None:
    write(tmp_path, RECIPE | {"images": {"short_side": 96, "long_side": 96}}, "shared.yaml")
    settings: dict[str, Any] = {"same": None, "twice": {"distill": {"teacher_images": {"short_side": 192}}}}
    found = read_plan(
        write(tmp_path, {"recipe": "shared.yaml", "settings": settings, "methods": {"hint": {"hint": {}}}})
    )
    assert {name: recipe.teacher_ratio for name, recipe in found.settings.items()} == {"same": 1, "twice": 2}
    ratios = {cell.setting: found.recipe(cell).teacher_ratio for cell in found.cells() if cell.method == "hint"}
    assert ratios == {"same": 1, "twice": 2}


def test_options_of_a_head_are_not_mixed_with_those_of_another(tmp_path: Path) -> None:
    write(tmp_path, RECIPE | {"detector": {"kind": "retinanet", "options": {"anchor_ratios": [1.0]}}}, "shared.yaml")
    settings = {"gfl": {"detector": {"kind": "gfl", "options": {"anchor_scale": 2.0}}}}
    found = read_plan(write(tmp_path, {"recipe": "shared.yaml", "settings": settings}))
    assert vars(found.settings["gfl"].detector)["options"] == {"anchor_scale": 2.0}


def test_a_written_plan_is_the_same_plan(tmp_path: Path) -> None:
    written = plan(select_on="val")
    written.write(tmp_path / "plan.yaml")
    assert read_plan(tmp_path / "plan.yaml") == written


def test_students_of_torchvision_are_compared_too(tmp_path: Path) -> None:
    setting = {"detector": {"kind": "torchvision", "name": "fcos_resnet50_fpn"}}
    shared = {key: value for key, value in RECIPE.items() if key != "detector"}
    write(tmp_path, shared, "shared.yaml")
    found = read_plan(write(tmp_path, {"recipe": "shared.yaml", "settings": {"fcos": setting}}))
    assert found.settings["fcos"].detector == TorchvisionArchitecture("fcos_resnet50_fpn")
    found.write(tmp_path / "again.yaml")
    assert read_plan(tmp_path / "again.yaml") == found


def test_methods_and_settings_stay_in_their_order(tmp_path: Path) -> None:
    """A run is asked for by its number among the cells."""
    methods: dict[str, Any] = {BASELINE: {}, "soft": {"soft_label": {}}, "hint": {"hint": {}}}
    written = plan(methods=methods, settings={name: plan().settings["a"] for name in ("b", "a")})
    written.write(tmp_path / "plan.yaml")
    assert [str(cell) for cell in written.cells()][:2] == ["b, baseline, seed 0", "b, soft, seed 0"]
    assert read_plan(tmp_path / "plan.yaml").cells() == written.cells()


def test_seeds_come_one_after_the_other() -> None:
    assert plan().cells() == [Cell("a", name, seed) for seed in (0, 1) for name in (BASELINE, "hint")]
    assert str(Cell("a", "hint", 1)) == "a, hint, seed 1"
    assert Cell("a", "hint", 1).folder(Path("out")) == Path("out/a/hint/1")


def test_runs_differ_in_seed_and_terms_alone_and_choose_no_epoch() -> None:
    alone, taught = (plan().recipe(Cell("a", name, 4)) for name in (BASELINE, "hint"))
    assert alone.distill is None
    assert taught.distill is not None
    assert taught.distill.terms == {"hint": {}}
    assert (alone.seed, alone.data.val, taught.seed, taught.data.val) == (4, None, 4, None)
    assert replace(taught, distill=None) == alone


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"report_on": "train"}, "a: the split 'train' is trained on; nothing is reported on it"),
        ({"select_on": "train"}, "a: the split 'train' is trained on; nothing is chosen on it"),
        ({"select_on": "test"}, "report_on and select_on are both 'test'"),
        ({"seeds": ()}, "a comparison needs a setting, a method beside the baseline, and a seed"),
        ({"methods": {BASELINE: {}}}, "a method beside the baseline"),
        ({"methods": {BASELINE: {}, "a/b": {"hint": {}}}}, "becomes a folder's.*'a/b'"),
        ({"methods": {BASELINE: {}, "..": {"hint": {}}}}, "becomes a folder's.*'\\.\\.'"),
        (
            {"methods": {BASELINE: {}, "x": {"hnt": {}}}},
            "method x: distill.terms: there is no method 'hnt'.*did you mean hint",
        ),
        (
            {"methods": {BASELINE: {}, "x": {"hint": {"wher": "all"}}}},
            "method x: distill.terms.hint has no option 'wher'",
        ),
    ],
)
def test_what_cannot_be_followed_is_said_before_the_first_run(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(DetdistillError, match=f"(?s){message}"):
        plan(**changes)


def test_mistakes_in_files_name_the_file(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"(?s)plan.yaml: there is no key 'sedes'.*seeds"):
        read_plan(write(tmp_path, {"settings": {"a": RECIPE}, "sedes": 3}))
    with pytest.raises(DetdistillError, match=r"plan.yaml, setting a: there is no key 'detectr'"):
        read_plan(write(tmp_path, {"settings": {"a": RECIPE | {"detectr": {}}}}))
    with pytest.raises(DetdistillError, match="the setting a has no teacher"):
        read_plan(write(tmp_path, {"settings": {"a": {"data": {"path": "d"}}}}))
    with pytest.raises(DetdistillError, match=r"nowhere.yaml: cannot be read"):
        read_plan(write(tmp_path, {"recipe": "nowhere.yaml", "methods": {"hint": {"hint": {}}}}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": "x"}, "seeds must be an integer or a list, not 'x'"),
        ({"seeds": ["a"]}, "seeds must be an integer or a list"),
        ({"seeds": None}, "seeds must be an integer or a list, not null"),
        ({"methods": {"hint": {"hint": None}}}, "methods.hint.hint must be keys and values, not null"),
        ({"methods": {"hint": 3}}, "methods.hint must be keys and values or null, not 3"),
        ({"methods": ["hint"]}, "methods must be keys and values or null, not ['hint']"),
        ({"report_on": 3}, "report_on must be text, not 3"),
        ({"recipe": 3}, "recipe must be text or null, not 3"),
        ({"settings": {"a": RECIPE | {"images": None}}}, "images must be a group of keys"),
        ({"settings": {"a": RECIPE | {"detector": 3}}}, "detector must be a group of keys"),
        ({"settings": {"a": RECIPE | {"teacher": "t"}}}, "'teacher' is now 'distill.teacher'"),
    ],
)
def test_values_of_a_file_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=f"plan.yaml.*{re.escape(message)}"):
        read_plan(write(tmp_path, {"settings": {"a": RECIPE}} | changes))


def test_names_of_a_command_line() -> None:
    assert named_methods("baseline, rm ,hint+cross_head") == {
        "baseline": {},
        "rm": {"rank_mimicking": {}},
        "hint+cross_head": {"hint": {}, "cross_head": {}},
    }
