"""`docs/reference/recipe.md`: every key of a recipe with type, default and description."""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any, get_args, get_type_hints

from docs.generate.markdown import default_words, table, type_words
from docstring_parser import parse

from detdistill.training.recipe import DistillationRecipe, Recipe

INTRODUCTION = """\
# Keys of a recipe

A recipe is a YAML file; every key is also an option of `train`, `distill` and `check`: `schedule: {epochs: 3}` is
`--schedule.epochs 3`. What a recipe leaves out has its default. A recipe with a `teacher` is one of a distillation.
[`recipes/`](../../recipes) has examples.

This page is written by `python -m docs.generate`; a test compares the two.
"""


def page() -> str:
    """The page as Markdown."""
    own = [field.name for field in dataclasses.fields(DistillationRecipe) if field.name not in _names(Recipe)]
    parts = [INTRODUCTION, "## A training run\n", _table(Recipe, _names(Recipe))]
    parts += ["\n## A distillation\n\nThe keys of a training run, and\n", _table(DistillationRecipe, own)]
    parts.append("\nThe methods and their options: [methods](../methods.md).")
    hints = get_type_hints(Recipe)
    groups = [(name, _nested(hints[name])) for name in _names(Recipe)]
    for name, group in groups:
        if group is not None:
            parts += _group(name, group)
    return "\n".join([*parts, ""])


def _names(kind: Any) -> list[str]:
    return [field.name for field in dataclasses.fields(kind)]


def _nested(hint: Any) -> Any:
    """The dataclass that a key holds, also where it may be null; None where it holds a value."""
    return next((part for part in (hint, *get_args(hint)) if dataclasses.is_dataclass(part)), None)


def _group(name: str, kind: Any) -> list[str]:
    description = parse(inspect.getdoc(kind) or "").short_description or ""
    parts = [f"\n## {name}\n\n{description}\n", _table(kind, _names(kind), f"{name}.")]
    hints = get_type_hints(kind)
    for inner in _names(kind):
        nested = _nested(hints[inner])
        if nested is not None:
            parts += _group(f"{name}.{inner}", nested)
    return parts


def _table(kind: Any, names: list[str], prefix: str = "") -> str:
    hints = get_type_hints(kind)
    described = {
        param.arg_name: re.sub(r"\bNone\b", "null", param.description or "")  # as YAML says it
        for described_by in reversed(kind.__mro__)
        for param in parse(inspect.cleandoc(described_by.__doc__ or "")).params
    }
    fields = {field.name: field for field in dataclasses.fields(kind)}
    rows = [
        (f"`{prefix}{name}`", type_words(hints[name]), default_words(fields[name]), described[name]) for name in names
    ]
    return table(("key", "type", "default", ""), rows)
