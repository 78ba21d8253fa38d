"""Keys of a recipe on a command line: `--schedule.epochs 3`, over the recipe's file."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import yaml

from detdistill.core.errors import SettingsError
from detdistill.training.distillation_settings import DEFAULT_TERMS
from detdistill.training.recipe_file import FREE, merged
from detdistill.training.yaml_values import BY_CLASS, read_word

Override = tuple[str, str]
"""A dotted key and its value, as they were written."""


def split_overrides(words: Sequence[str], keys: Collection[str]) -> tuple[list[str], list[Override]]:
    """Take the keys of a recipe out of a command line.

    Args:
        words: The command line.
        keys: Names of the recipe's sections and values; every option with a dot is a key, too.

    Returns:
        The other words, and the keys with their values, from `--KEY VALUE` and `--KEY=VALUE`.

    Raises:
        SettingsError: A key has no value.
    """
    rest: list[str] = []
    overrides: list[Override] = []
    following = iter(words)
    for word in following:
        match = re.fullmatch(r"--([A-Za-z_][^=]*)(?:=(.*))?", word, re.DOTALL)
        if match is None or not ("." in match[1] or match[1].replace("-", "_") in keys):
            rest.append(word)
            continue
        value = next(following, None) if match[2] is None else match[2]
        if value is None or (match[2] is None and value.startswith("--")):
            raise SettingsError(f"--{match[1]} has no value; expected --{match[1]} VALUE")
        overrides.append((match[1], value))
    return rest, overrides


def with_overrides(values: Mapping[str, Any], overrides: Sequence[Override]) -> dict[str, Any]:
    """Return the nested values of a recipe with keys set; a key that is given twice has the last value.

    Raises:
        SettingsError: A value in brackets is not YAML, or a key is in no group.
    """
    result = copy.deepcopy(dict(values))
    for written, text in overrides:
        *groups, name = path = _path(written)
        try:
            value = read_word(text, table=next((part for part in path if part in BY_CLASS), None))
        except yaml.YAMLError as error:
            raise SettingsError(f"--{written}: {text!r} is not YAML: {error}") from error
        if path == ["distill", "terms"] and isinstance(value, str | list):
            names = value.split(",") if isinstance(value, str) else value
            value = {str(term).strip(): {} for term in names}
        inner = result
        for group in groups:
            if inner.get(group) is None:
                inner[group] = {term: {} for term in DEFAULT_TERMS} if group == "terms" else {}
            inner = inner[group]
            if not isinstance(inner, dict):
                raise SettingsError(f"--{written}: {group} must be a group of keys in the recipe, not {inner!r}")
        is_group = isinstance(value, Mapping) and isinstance(inner.get(name), Mapping) and name not in FREE
        inner[name] = merged(inner[name], value) if is_group else value
    return result


def _path(written: str) -> list[str]:
    """The parts of a dotted key; a dash is an underscore, except in names of classes."""
    path: list[str] = []
    for part in written.split("."):
        path.append(part if BY_CLASS & {*path} else part.replace("-", "_"))
    return path
