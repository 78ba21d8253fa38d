from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from detdistill.core.errors import SettingsError
from detdistill.core.settings import keys
from detdistill.training.distillation_settings import Distillation
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import read_recipe, read_recipe_of_run
from detdistill.training.renamed_keys import RENAMED, converted

OLD = """
data: {path: d}
detector: {head: fcos, channels: 64, extra_levels: 1, extra_source: input, extra_relu: true, backbone: resnet34}
start: {run: runs/a, batch_norm: eval}
teacher: t
terms: {hint: {}}
weight: paper
ratio: 2.0
class_map: {0: one}
teacher_memory: 7
init_from_teacher: [head]
"""


def test_a_run_folders_old_recipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(OLD)
    found = read_recipe_of_run(tmp_path / "recipe.yaml")
    assert found.detector.kind == "fcos"
    pyramid = vars(found.detector)["pyramid"]
    assert (pyramid.channels, pyramid.extra_levels, pyramid.extra_source, pyramid.extra_relu) == (64, 1, "input", True)
    assert found.start.source == "runs/a"
    assert found.distill == Distillation("t", {"hint": {}}, "paper", 2.0, {"0": "one"}, 7, ("head",))


def test_every_former_key_is_an_error_that_names_the_present_one(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(OLD)
    with pytest.raises(SettingsError) as refused:
        read_recipe(tmp_path / "recipe.yaml")
    for former, present in RENAMED.items():
        assert f"'{former}' is now '{present}'" in str(refused.value)


def test_the_present_keys_exist() -> None:
    assert set(RENAMED.values()) <= set(keys(Recipe))
    assert set(RENAMED).isdisjoint(keys(Recipe))


@pytest.mark.parametrize(
    "values",
    [
        {"data": {"path": "d"}},
        {"data": {"path": "d"}, "detector": None, "start": 3},
        {"detector": {"kind": "gfl", "pyramid": {"channels": 3}}, "distill": {"teacher": "t"}},
    ],
)
def test_present_keys_stay(values: dict[str, Any]) -> None:
    before = copy.deepcopy(values)
    assert converted(values) == before
    assert values == before
