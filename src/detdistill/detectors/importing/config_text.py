"""Configurations written as Python text, read as data: nothing in them is ever executed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from detdistill.core.errors import DetdistillError
from detdistill.core.texts import one_line

LONGEST_TEXT = 1_000_000
MOST_VALUES = 1_000_000
"""Values of all variables, those of other variables in them included. Resolved configurations have under 5,000."""
DEEPEST = 50
"""Levels of nested values. mmdetection's have about ten."""
LONGEST_SOURCE = 200
"""Characters of an expression that messages show."""
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
        DetdistillError: the text is not Python, or absurdly long, or stands for an absurd number of values.
    """
    if len(text) > LONGEST_TEXT:
        raise DetdistillError(f"the configuration has {len(text)} characters, more than {LONGEST_TEXT}")
    config: dict[str, Any] = {}
    reader = _Reader()
    try:
        for file in _files(text):
            config = _merged(config, reader.read(ast.parse(file)))
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


@dataclass
class _Reader:
    """Reads variables, and counts what they stand for: a name stands for all that its variable holds.

    Attributes:
        variables: values by name, of the present file.
        extents: number of values and of levels of each.
        count: values so far, of all files.
        deepest: levels of the present statement's value.
    """

    variables: dict[str, Any] = field(default_factory=dict)
    extents: dict[str, tuple[int, int]] = field(default_factory=dict)
    count: int = 0
    deepest: int = 0

    def read(self, tree: ast.Module) -> dict[str, Any]:
        """Return the variables of a file."""
        self.variables, self.extents = {}, {}
        for statement in tree.body:
            if isinstance(statement, ast.Assign):
                before, self.deepest = self.count, 0
                value = self._value(statement.value, 1)
                for target in statement.targets:
                    if isinstance(target, ast.Name):
                        self.variables[target.id] = value
                        self.extents[target.id] = self.count - before, self.deepest
        return self.variables

    def _value(self, node: ast.expr, depth: int) -> Any:
        self._add(1, depth)
        match node:
            case ast.Constant(value=value):
                return value
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
                return -value
            case ast.List(elts=items):
                return [self._value(item, depth + 1) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self._value(item, depth + 1) for item in items)
            case ast.Name(id=name) if name in self.variables:
                count, levels = self.extents[name]
                self._add(count, depth + levels - 1)
                return self.variables[name]
            case ast.Dict(keys=keys, values=values):
                names = [None if key is None else self._value(key, depth + 1) for key in keys]
                return self._dictionary(node, zip(names, values, strict=True), depth)
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return self._dictionary(node, ((keyword.arg, keyword.value) for keyword in keywords), depth)
        return _unread(node)

    def _dictionary(self, node: ast.expr, entries: Iterator[tuple[Any, ast.expr]], depth: int) -> Any:
        result: dict[Any, Any] = {}
        for key, item in entries:
            value = self._value(item, depth + 1)
            if isinstance(key, str):
                result[key] = value
            elif key is None and isinstance(value, dict):
                result.update(value)
            elif not isinstance(key, int | float):
                return _unread(node)
        return result

    def _add(self, count: int, depth: int) -> None:
        self.count += count
        self.deepest = max(self.deepest, depth)
        if self.count > MOST_VALUES:
            raise DetdistillError(f"the configuration stands for more than {MOST_VALUES:,} values")
        if depth > DEEPEST:
            raise DetdistillError(f"the configuration is nested more than {DEEPEST} levels deep")


def _unread(node: ast.expr) -> Unread:
    return Unread(one_line(ast.unparse(node), LONGEST_SOURCE))


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
