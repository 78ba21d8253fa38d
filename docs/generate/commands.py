"""`docs/reference/cli.md`: every verb with its arguments and options."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

from docs.generate.markdown import default_words, table, type_words

from detdistill.cli import COMMANDS
from detdistill.cli.parser import Argument, Group, Verb

INTRODUCTION = """\
# Commands

`detdistill VERB --help` says the same. A verb exits with 0; with 1 after an error that the user can mend, which it
names; with 2 after a mistake in the command line; with 130 and 143 after Ctrl-C and SIGTERM. Numbers in JSON files are
0 to 1, `null` where undefined; printed AP is 0 to 100.

This page is written by `python -m docs.generate`; a test compares the two.
"""
RECIPE = """\
Keys of the recipe are options: `--schedule.epochs 3`; an option counts more than the file. The first word may be the
recipe's file, and `--data D` is `--data.path D`. [All keys](recipe.md).
"""
EMPTY = ("required", "`null`", "`false`")


def page() -> str:
    """The page as Markdown."""
    verbs = list(_verbs("detdistill", COMMANDS))
    overview = table(("verb", ""), [(f"[`{name}`](#{_anchor(name)})", _first_line(verb)) for name, verb in verbs])
    return "\n".join([INTRODUCTION, overview, *(_section(name, verb) for name, verb in verbs), ""])


def _verbs(prefix: str, group: Group) -> Iterator[tuple[str, type[Verb]]]:
    for name, verb in group.verbs.items():
        if isinstance(verb, Group):
            yield from _verbs(f"{prefix} {name}", verb)
        else:
            yield f"{prefix} {name}", verb


def _anchor(name: str) -> str:
    return name.replace(" ", "-")


def _first_line(verb: type[Verb]) -> str:
    return (inspect.getdoc(verb) or "").partition("\n")[0]


def _section(name: str, verb: type[Verb]) -> str:
    hints = get_type_hints(verb, include_extras=True)
    fields = dataclasses.fields(verb)
    has_recipe = any(dataclasses.is_dataclass(hints[field.name]) for field in fields)
    rows = [_row(field, hints[field.name]) for field in fields if not dataclasses.is_dataclass(hints[field.name])]
    parts = [f"\n## {name}\n", inspect.getdoc(verb) or ""]
    if has_recipe:
        parts += ["", RECIPE.strip()]
        rows.insert(0, ("`--recipe`", "path", "", "YAML file of the recipe"))
    return "\n".join([*parts, "", table(("", "takes", "default", ""), rows)])


def _row(field: dataclasses.Field[Any], hint: Any) -> tuple[str, str, str, str]:
    kind, text = get_args(hint)
    is_argument = isinstance(text, Argument)
    name = f"`{field.name.upper()}`" if is_argument else f"`--{field.name.replace('_', '-')}`"
    default = default_words(field)
    takes = "nothing" if kind is bool else type_words(kind).removesuffix(" or null")
    return name, takes, "" if default in EMPTY[1:] else default, str(text)
