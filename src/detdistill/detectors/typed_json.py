"""JSON to dataclasses, strictly by their annotations.

The command line's parser (jsonargparse) reads dataclasses too, but it opens file names and imports class paths that it
meets in a value. Here the file may be a stranger's: values are compared with types, and nothing else happens.
"""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

LARGEST_EXACT_INT = 2**53


class MismatchError(Exception):
    """A value that is not of its type; the message starts with the way to it, as in `.architecture.head: …`."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where.removeprefix('.') or 'the file'}: {what}")


def from_json(kind: Any, value: Any, where: str = "") -> Any:
    """Builds a value of an annotated type from parsed JSON.

    Args:
        kind: a dataclass, `Literal`, tuple, mapping, union, `Any`, or a plain type. A whole number passes for a float.
        value: what `json.loads` returned.
        where: the way to `value`, for messages.

    Raises:
        MismatchError: the first value that is not of its type, an unknown or a missing field.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is Literal:
        if value in arguments:
            return value
        raise MismatchError(where, f"{value!r} is none of {', '.join(map(repr, arguments))}")
    if origin in (Union, types.UnionType):
        return _union(arguments, value, where)
    if origin is tuple:
        return _tuple(arguments, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, dict):
            raise MismatchError(where, f"{value!r} is not an object")
        return {key: from_json(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if kind is float and type(value) is int and abs(value) <= LARGEST_EXACT_INT:
        return float(value)
    if type(value) is not kind:
        raise MismatchError(where, f"{value!r} is not of type {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise MismatchError(where, f"{value} is not a finite number")
    return value


def _dataclass(kind: Any, value: object, where: str) -> Any:
    if not isinstance(value, dict):
        raise MismatchError(where, f"{value!r} is not an object")
    fields = dataclasses.fields(kind)
    unknown = value.keys() - {field.name for field in fields}
    if unknown:
        raise MismatchError(where, f"unknown field {', '.join(sorted(unknown))}")
    required = {field.name for field in fields if field.default is field.default_factory is dataclasses.MISSING}
    if required - value.keys():
        raise MismatchError(where, f"missing field {', '.join(sorted(required - value.keys()))}")
    hints = get_type_hints(kind)
    return kind(**{name: from_json(hints[name], item, f"{where}.{name}") for name, item in value.items()})


def _union(kinds: tuple[Any, ...], value: object, where: str) -> Any:
    failures = []
    for kind in kinds:
        try:
            return from_json(kind, value, where)
        except MismatchError as mismatch:
            failures.append(mismatch)
    raise failures[0]


def _tuple(kinds: tuple[Any, ...], value: object, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise MismatchError(where, f"{value!r} is not a list")
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(value)
    if len(value) != len(kinds):
        raise MismatchError(where, f"{len(value)} values instead of {len(kinds)}")
    pairs = enumerate(zip(kinds, value, strict=True))
    return tuple(from_json(kind, item, f"{where}[{index}]") for index, (kind, item) in pairs)
