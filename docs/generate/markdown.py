"""Tables, and types and defaults in words."""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", Path: "path", type(None): "null"}
"""Types as a YAML file or a command line has them."""


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; line breaks and bars in its cells are made harmless."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def type_words(hint: Any) -> str:
    """A type hint in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return type_words(inner[0])
    if hint in WORDS:
        return WORDS[hint]
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(type_words(part) for part in inner))
    if origin is tuple and inner[-1] is not Ellipsis:
        return f"list of {len(inner)}: {', '.join(dict.fromkeys(type_words(part) for part in inner))}"
    if origin in (tuple, list):
        return f"list of {type_words(inner[0])}"
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return "keys and values"
    if dataclasses.is_dataclass(hint):
        return "keys below"
    raise TypeError(f"no words for {hint}")


def default_words(field: dataclasses.Field[Any]) -> str:
    """A field's default as YAML has it; `required` without one."""
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        return "" if dataclasses.is_dataclass(value) else f"`{_yaml(value)}`"
    return "required" if field.default is dataclasses.MISSING else f"`{_yaml(field.default)}`"


def _yaml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(_yaml(item) for item in value)}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"{value:g}" if isinstance(value, float) else str(value)
