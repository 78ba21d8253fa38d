from __future__ import annotations

import ast
from dataclasses import fields

import pytest
from docs.generate.__main__ import DOCS, PAGES
from docs.generate.api import GROUPS
from docs.generate.markdown import default_words, table, type_words

from detdistill.detectors.dense.architecture import FeaturePyramid
from detdistill.training.recipe import Optimization, Recipe, Schedule
from support.code_blocks import PAGES as ALL_PAGES
from support.code_blocks import blocks


@pytest.mark.parametrize("name", PAGES)
def test_pages_say_what_the_code_says(name: str) -> None:
    assert (DOCS / name).read_text(encoding="utf-8") == PAGES[name](), "write them anew: python -m docs.generate"


def test_the_api_has_what_the_documentation_uses() -> None:
    listed = {(module, name) for modules in GROUPS.values() for module, names in modules.items() for name in names}
    used = {
        (node.module or "", alias.name)
        for page in ALL_PAGES
        for block in blocks(page)
        if block.language == "python"
        for node in ast.walk(ast.parse(block.text))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("detdistill")
        for alias in node.names
        if not alias.name.isupper()
    }
    assert used
    assert used - listed == set()


def test_types_and_defaults_in_the_words_of_yaml() -> None:
    assert type_words(int | None) == "integer or null"
    assert type_words(tuple[int, ...]) == "list of integer"
    assert type_words(tuple[float, float]) == "list of 2: number"
    words = {
        field.name: default_words(field)
        for kind in (Recipe, Schedule, Optimization, FeaturePyramid)
        for field in fields(kind)
    }
    assert words["data"] == "required"
    assert words["seed"] == "`0`"
    assert words["accumulate"] == "`1`"
    assert words["extra_relu"] == "`false`"
    assert words["milestones"] == "`[8, 11]`"
    assert words["clip_norm"] == "`35`"
    assert words["ema"] == "`null`"
    with pytest.raises(TypeError, match="no words for"):
        type_words(bytes)


def test_cells_stay_cells() -> None:
    assert table(("a",), [("b\n  c|d",)]) == "| a |\n| --- |\n| b c\\|d |"
