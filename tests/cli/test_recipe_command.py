from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from detdistill.cli import main
from detdistill.core.settings import to_values
from detdistill.training.recipe_file import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def test_show_prints_a_recipe_that_means_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = RECIPES / "distill_small.yaml"
    assert main(["recipe", "show", str(file)]) == 0
    shown = capsys.readouterr().out
    assert yaml.safe_load(shown) == to_values(read_recipe(file))
    (tmp_path / "shown.yaml").write_text(shown)
    assert read_recipe(tmp_path / "shown.yaml") == read_recipe(file)


def test_show_applies_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show", "--data", "d", "--teacher", "t", "--schedule.epochs", "3"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["data"]["path"], shown["distill"]["teacher"], shown["schedule"]["epochs"]) == ("d", "t", 3)


def test_show_without_a_recipe_prints_all_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["recipe", "show"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["detector"]["kind"] == "gfl"


def test_the_stored_schema_is_up_to_date(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`detdistill recipe schema --out recipes/schema.json` writes it anew."""
    assert main(["recipe", "schema", "--out", str(tmp_path / "schema.json")]) == 0
    written = (tmp_path / "schema.json").read_text(encoding="utf-8")
    assert written == (RECIPES / "schema.json").read_text(encoding="utf-8")
    assert main(["recipe", "schema"]) == 0
    assert capsys.readouterr().out == written


def test_the_schema_describes_every_key() -> None:
    definitions = json.loads((RECIPES / "schema.json").read_text(encoding="utf-8"))["$defs"]
    undescribed = [
        f"{name}.{key}"
        for name, kind in definitions.items()
        for key, value in kind["properties"].items()
        if "description" not in value
    ]
    assert undescribed == []


@pytest.mark.parametrize("file", sorted(RECIPES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_recipe_names_its_schema(file: Path) -> None:
    assert file.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=schema.json\n")
