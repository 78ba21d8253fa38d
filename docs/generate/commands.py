"""`docs/reference/cli.md`: every verb with its arguments and options."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from docs.generate.markdown import default_words, table, type_words
from docstring_parser import parse

from detdistill.cli import VERBS
from detdistill.cli.recipe_options import RecipeOptions

INTRODUCTION = """\
# Commands

`detdistill VERB --help` says the same. A verb exits with 0; with 1 after an error that the user can fix, which it
names; with 2 after a wrong option or a wrong recipe; with 130 and 143 after Ctrl-C and SIGTERM.
`detdistill --install-completion` installs shell completion. Numbers in JSON files are
0 to 1, `null` where undefined; printed AP is 0 to 100.

This page is written by `python -m docs.generate`; a test compares the two.
"""
RECIPE = """\
Keys of the recipe are options: `--schedule.epochs 3`; an option counts more than the file. Values are YAML 1.2:
`1e-3`, `null`, `true`, `[8, 11]`. [All keys](recipe.md).
"""
EMPTY = ("`null`", "`false`")


def page() -> str:
    """The page as Markdown."""
    verbs = [(f"detdistill {name}", *place) for own in VERBS.values() for name, place in own.items()]
    overview = table(("verb", ""), [(f"[`{name}`](#{_anchor(name)})", text) for name, _, text in verbs])
    return "\n".join([INTRODUCTION, overview, *(_section(name, place) for name, place, _ in verbs), ""])


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _section(name: str, place: str) -> str:
    module, _, kind = place.partition(":")
    verb = getattr(importlib.import_module(f"detdistill.cli.{module}"), kind)
    rows = sorted(_rows(verb), key=lambda row: row[0].startswith("`--"))  # arguments by position first
    parts = [f"\n## {name}\n", inspect.getdoc(verb) or ""]
    if issubclass(verb, RecipeOptions):
        parts += ["", RECIPE.strip()]
    if not rows:
        return "\n".join(parts)
    return "\n".join([*parts, "", table(("", "takes", "default", ""), rows)])


def _rows(verb: Any, group: str = "") -> Iterator[tuple[str, str, str, str]]:
    """A row for each option; those of a dataclass among them have their texts in its docstring.

    Args:
        verb: a dataclass.
        group: what stands before the names of its options, such as `card.`.
    """
    hints = get_type_hints(verb, include_extras=True)
    texts = {text.arg_name: text.description or "" for text in parse(inspect.getdoc(verb) or "").params}
    for field in dataclasses.fields(verb):
        kind, parameter = get_args(hints[field.name]) if get_origin(hints[field.name]) is Annotated else (None, None)
        if parameter is None:
            yield _row(field, hints[field.name], texts[field.name], group)
        elif dataclasses.is_dataclass(kind):
            yield from _rows(kind, "" if parameter.name == ("*",) else f"{field.name}.")
        elif parameter.parse is not False:
            yield _row(field, kind, parameter.help)


def _row(field: dataclasses.Field[Any], kind: Any, text: str, group: str = "") -> tuple[str, str, str, str]:
    name = f"`--{group}{field.name.replace('_', '-')}`" if field.kw_only else f"`{field.name.upper()}`"
    default = default_words(field)
    takes = "nothing" if kind is bool else type_words(kind).removesuffix(" or null")
    return name, takes, "" if default in EMPTY else default, text
