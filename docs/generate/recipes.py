"""`docs/reference/recipe.md`: every key of a recipe with type, default and description."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from docs.generate.markdown import default_words, table, type_words

from detdistill.core.settings import fields_of, groups
from detdistill.training.recipe import Recipe

INTRODUCTION = """\
# Keys of a recipe

A recipe is a YAML 1.2 file; every key is also an option of `train`, `distill` and `check`: `schedule: {epochs: 3}` is
`--schedule.epochs 3`, and in Python `train(data, out, schedule={"epochs": 3})`. What a recipe leaves out has its
default; `detdistill recipe show FILE` prints all. [`recipes/`](../../recipes) has examples, and a schema
(`recipes/schema.json`) by which editors complete keys: a recipe's first line,
`# yaml-language-server: $schema=schema.json`, names it.

This page is written by `python -m docs.generate`; a test compares the two.
"""


def page() -> str:
    """The page as Markdown."""
    parts = [INTRODUCTION, "## A training run\n", _table(Recipe)]
    parts.append("\nThe methods and their options: [methods](../methods.md).")
    return "\n".join([*parts, *_groups(Recipe), ""])


def _groups(kind: Any, prefix: str = "") -> list[str]:
    """The tables of all groups of keys, those of a detector for each of its kinds."""
    parts: list[str] = []
    for name, hint in fields_of(kind).items():
        for group in groups(hint):
            title = f"{prefix}{name}"
            if len(groups(hint)) > 1:
                title += f", kind {type_words(fields_of(group)['kind'])}"
            description = (inspect.getdoc(group) or "").partition("\n")[0]
            parts += [f"\n## {title}\n\n{description}\n", _table(group, f"{prefix}{name}.")]
            parts += _groups(group, f"{prefix}{name}.")
    return parts


def _table(kind: Any, prefix: str = "") -> str:
    described = kind.__pydantic_fields__
    rows = [
        (f"`{prefix}{key}`", type_words(hint), default_words(field), described[field.name].description)
        for (key, hint), field in zip(fields_of(kind).items(), dataclasses.fields(kind), strict=True)
    ]
    return table(("key", "type", "default", ""), rows)
