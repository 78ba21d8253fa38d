"""Recipes as YAML files. Readable without torch."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser

from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.suggestions import did_you_mean
from detdistill.core.wrong_values import in_words, instantiated
from detdistill.training.recipe import DistillationRecipe, Recipe

T = TypeVar("T")
CLASS_MAP = "class_map"
SHORT_FLOAT = re.compile(r"[-+]?\d+[eE][-+]?\d+$")
READ_AS_OTHERS = tuple(f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "timestamp"))


def read_recipe(file: Path) -> Recipe:
    """Reads a recipe, of a distillation if it names a teacher; what it does not say has its default.

    Raises:
        DetdistillError: it cannot be read, has an unknown key (the nearest is suggested) or a value that cannot be.
    """
    return recipe_of(read_values(file), str(file))


def read_values(file: Path) -> dict[str, Any]:
    """What a YAML file of keys and values says, as it stands there.

    Raises:
        DetdistillError: it cannot be read, holds something else, or has a key twice.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DetdistillError(f"{file} is no recipe: it is not a text file") from error
    values = _each_key_once(file, text) or {}
    if not isinstance(values, dict):
        raise DetdistillError(f"{file} is no recipe: it holds no `key: value` lines")
    return values


def recipe_of(values: Mapping[str, Any], source: str) -> Recipe:
    """The recipe of nested values; those of a distillation name a `teacher`.

    Args:
        values: as a recipe's file has them.
        source: where they come from, for messages.

    Raises:
        DetdistillError: an unknown key (the nearest is suggested) or a value that cannot be.
    """
    return typed(values, DistillationRecipe if "teacher" in values else Recipe, source)


def typed(values: Mapping[str, Any], kind: type[T], source: str) -> T:
    """A dataclass of nested values.

    Args:
        values: as a file has them.
        kind: the dataclass.
        source: where they come from, for messages.

    Raises:
        DetdistillError: an unknown key (the nearest is suggested) or a value that cannot be.
    """
    _check_known(source, values, kind)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, None)
    try:
        namespace = instantiated(parser, parser.parse_string(one_line(values)))
    except ArgumentError as error:
        raise DetdistillError(f"{source}: {in_words(str(error))}") from error
    return kind(**vars(namespace))


def check_keys(file: Path, kind: type) -> None:
    """Finds what jsonargparse passes over: repeated keys, mistyped ones that hold nothing, groups that are none.

    Args:
        file: a recipe that was read.
        kind: the recipe's dataclass.

    Raises:
        DetdistillError: an unknown key, `trems: {hint: {}}`; the nearest is suggested. Or a key that stands twice in
            its group, or a group without keys, `images: 3`.
    """
    _check_known(str(file), read_values(file), kind)


def _each_key_once(file: Path, text: str) -> Any:
    try:
        return _EachKeyOnce(text).get_single_data()
    except yaml.YAMLError as error:
        raise DetdistillError(f"{file}: {error}") from error


def _check_known(source: str, values: Mapping[str, Any], kind: type) -> None:
    for key, value, hint in _pairs(values, kind):
        if hint is None:
            message = f"{source}: there is no key '{key}'"
            raise DetdistillError(message + did_you_mean(message, keys(kind)))
        if value is None and hint is not Any and type(None) not in get_args(hint):
            raise DetdistillError(f"{source}: {key} is empty: give it a value, or remove it")
        group = _group(hint)
        if group is not None and not isinstance(value, Mapping | None):
            raise DetdistillError(f"{source}: {key} is a group of keys ({', '.join(keys(group))}), not {value!r}")


def _pairs(values: Mapping[str, Any], kind: type, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys with their values and types, those of groups as `group.key`; the type of an unknown key is None."""
    hints = get_type_hints(kind)
    for key, value in values.items():
        name, *inner = str(key).split(".")
        hint = hints.get(name)
        # `schedule.epochs: 3` is a way to write a key of a group, too.
        yield f"{prefix}{key}", value, Any if hint is not None and inner else hint
        group = _group(hint)
        if group is not None and isinstance(value, Mapping):
            yield from _pairs(value, group, f"{prefix}{key}.")


def _group(hint: Any) -> type | None:
    """The dataclass that a type is, or is beside None."""
    kinds = [kind for kind in (get_args(hint) or (hint,)) if isinstance(kind, type) and dataclasses.is_dataclass(kind)]
    return kinds[0] if kinds else None


def one_line(values: Mapping[str, Any]) -> str:
    """Nested values as YAML on one line, with all text in quotes, so that every reader gets the same values."""
    return yaml.dump(
        dict(values), Dumper=_Quoting, default_flow_style=True, width=math.inf, allow_unicode=True, sort_keys=False
    )


def names_as_written(text: str) -> str:
    """A `class_map` as a command line has it, with every class name in quotes; other text as it is."""
    try:
        table = _EachKeyOnce(f"{CLASS_MAP}: {text}").get_single_data()[CLASS_MAP]
    except (yaml.YAMLError, TypeError):
        return text
    return one_line(table) if isinstance(table, dict) else text


class _EachKeyOnce(yaml.SafeLoader):
    """Refuses a second value of a key, which YAML's readers silently put in the place of the first.

    The class names of a `class_map` stay text, as they are written: YAML would read `0`, `1.50` and `no` as other
    things. Numbers such as `1e-4` need no dot.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        lines: dict[str, int] = {}
        for key, value in node.value:
            if key.value == CLASS_MAP and isinstance(value, yaml.MappingNode):
                for name in itertools.chain.from_iterable(value.value):
                    _keep_text(name)
            line = key.start_mark.line + 1
            if key.value in lines:
                raise yaml.YAMLError(f"the key '{key.value}' of line {lines[key.value]} stands again in line {line}")
            lines[key.value] = line
        return super().construct_mapping(node, deep)


_EachKeyOnce.add_implicit_resolver("tag:yaml.org,2002:float", SHORT_FLOAT, list("-+0123456789"))


def _keep_text(node: yaml.Node) -> None:
    if isinstance(node, yaml.ScalarNode) and node.tag in READ_AS_OTHERS:
        node.tag = "tag:yaml.org,2002:str"


class _Quoting(yaml.SafeDumper):
    """Puts text in quotes, and writes repeated values out."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 (pyyaml's signature)
        return True


_Quoting.add_representer(str, lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"'))


def keys(kind: type, prefix: str = "") -> list[str]:
    """The keys of a dataclass, those of nested dataclasses as `group.key`."""
    found = []
    for name, hint in get_type_hints(kind).items():
        found.append(f"{prefix}{name}")
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            found += keys(hint, f"{prefix}{name}.")
    return found


def write_recipe(recipe: Recipe, file: Path) -> None:
    """Writes a recipe with all its values, so that a later default changes nothing.

    Raises:
        DetdistillError: the file cannot be written.
    """
    write_values(dataclasses.asdict(recipe), file)


def write_values(values: Mapping[str, Any], file: Path) -> None:
    """Writes nested values as YAML.

    Raises:
        DetdistillError: the file cannot be written.
    """
    write_atomically(file, yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True))


def _plain(value: Any) -> Any:
    """The value with lists instead of tuples, which YAML does not have."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def differences(old: Recipe, new: Recipe) -> dict[str, str]:
    """What two recipes differ in: `old -> new` by key, such as `{"schedule.epochs": "12 -> 24"}`."""
    before, after = (_flat(dataclasses.asdict(recipe)) for recipe in (old, new))
    return {
        key: f"{before.get(key)} -> {after.get(key)}"
        for key in dict.fromkeys((*before, *after))
        if before.get(key) != after.get(key)
    }


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = _plain(value)
    return flat
