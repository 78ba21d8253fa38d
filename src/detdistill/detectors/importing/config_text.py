"""Configurations written as Python text, read as data: nothing in them is ever executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detdistill.core.errors import DetdistillError

LONGEST_TEXT = 1_000_000
FILE_LINE = re.compile(r"^[^\s#'\"][^'\"()=]*\.py\s*$")


@dataclass(frozen=True)
class Unread:
    """An expression that is not a plain value.

    Attributes:
        source: how it is written.
    """

    source: str

    def __str__(self) -> str:
        return f"the expression {self.source}"


def read_config(text: str) -> dict[str, Any]:
    """The variables of a configuration.

    mmdetection writes three kinds: the resolved configuration as assignments of literals and `dict(…)` calls (3.x and
    late 2.x); the same with references to earlier variables; or (early 2.x) all files that the configuration inherits
    from, one after the other, each under a line with its name: later files then change the dictionaries of earlier
    ones, unless they say `_delete_=True`.

    Args:
        text: of the configuration.

    Returns:
        Variables by name; an `Unread` stands for every expression that is not a plain value.

    Raises:
        DetdistillError: the text is not Python, or absurdly long.
    """
    if len(text) > LONGEST_TEXT:
        raise DetdistillError(f"the configuration has {len(text)} characters, more than {LONGEST_TEXT}")
    config: dict[str, Any] = {}
    try:
        for file in _files(text):
            config = _merged(config, _variables(ast.parse(file)))
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise DetdistillError(f"the configuration is not Python text ({error})") from error
    return config


def _files(text: str) -> Iterator[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        if FILE_LINE.match(line):
            yield "\n".join(lines)
            lines = []
        else:
            lines.append(line)
    yield "\n".join(lines)


def _variables(tree: ast.Module) -> dict[str, Any]:
    variables: dict[str, Any] = {}
    for statement in tree.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    variables[target.id] = _value(statement.value, variables)
    return variables


def _value(node: ast.expr, variables: Mapping[str, Any]) -> Any:
    match node:
        case ast.Constant(value=value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.List(elts=items):
            return [_value(item, variables) for item in items]
        case ast.Tuple(elts=items):
            return tuple(_value(item, variables) for item in items)
        case ast.Name(id=name) if name in variables:
            return variables[name]
        case ast.Dict(keys=keys, values=values):
            names = [None if key is None else _value(key, variables) for key in keys]
            return _dictionary(node, zip(names, values, strict=True), variables)
        case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
            return _dictionary(node, ((keyword.arg, keyword.value) for keyword in keywords), variables)
    return Unread(ast.unparse(node))


def _dictionary(node: ast.expr, entries: Iterator[tuple[Any, ast.expr]], variables: Mapping[str, Any]) -> Any:
    result: dict[Any, Any] = {}
    for key, item in entries:
        value = _value(item, variables)
        if isinstance(key, str):
            result[key] = value
        elif key is None and isinstance(value, dict):
            result.update(value)
        elif not isinstance(key, int | float):
            return Unread(ast.unparse(node))
    return result


def _merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if isinstance(value, dict) and isinstance(old, dict) and not value.get("_delete_", False):
            result[key] = _merged(old, value)
        elif isinstance(value, dict):
            result[key] = {name: item for name, item in value.items() if name != "_delete_"}
        else:
            result[key] = value
    return result
