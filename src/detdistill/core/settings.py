"""Typed settings, checked by pydantic: recipes and saved descriptions are made of them. Readable without torch."""

from __future__ import annotations

import functools
import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import field, is_dataclass
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
    get_type_hints,
)

import pydantic.dataclasses
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails, to_jsonable_python

from detdistill.core.errors import SettingsError
from detdistill.core.files import DEEPEST
from detdistill.core.suggestions import did_you_mean
from detdistill.core.texts import has_half_character, one_line

T = TypeVar("T")
STRICT = ConfigDict(
    extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True, validate_by_name=True
)
"""Unknown keys are refused and nothing is coerced; only an integer passes for a number."""

_MOST_BITS = 1_000  # of an integer: a float has 1,024, and Python shows none of above 14,000
_LONGEST_VALUE = 200  # characters of a value in a message

_WORDS = {int: "an integer", float: "a number", bool: "true or false", str: "text", type(None): "null"}


def tuple_of_list(value: Any) -> Any:
    """Return a list as a tuple, and anything else as it is: pydantic takes no list for a tuple in Python."""
    return tuple(value) if isinstance(value, list) else value


@dataclass_transform(frozen_default=True, field_specifiers=(field, Field))
def settings(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass whose values pydantic checks.

    A text below a field describes it, in the JSON schema too. Lists may be given for tuples.

    Raises:
        SettingsError: When an object is made with an unknown field or a wrong value.
    """
    made = cast(Any, pydantic.dataclasses.dataclass(frozen=True, config=STRICT)(cls))
    check = made.__init__

    @functools.wraps(check)
    def init(self: Any, *values: Any, **named: Any) -> None:
        try:
            check(self, *map(tuple_of_list, values), **{name: tuple_of_list(value) for name, value in named.items()})
        except ValidationError as error:
            raise SettingsError("\n".join(in_words(error, made)), type(self).__name__) from None

    made.__init__ = init
    return cast(type[T], made)


def from_values(kind: type[T], values: Any, *, key: str = "", renamed: Mapping[str, str] | None = None) -> T:
    """Build settings from nested values, as a YAML or JSON file has them.

    Args:
        kind: A class made by `settings`, or any type that pydantic knows.
        values: Mappings, lists, texts, numbers, booleans and None; settings are values, too.
        key: Dotted key of the values, for messages.
        renamed: Former dotted keys with the present ones, for messages.

    Raises:
        SettingsError: An unknown key, or a value of another type or out of range. The message names every key.
    """
    fault = _fault(values, key, 1)
    if fault:
        raise SettingsError(fault)
    try:
        # JSON mode takes lists for tuples; strict Python mode would refuse them.
        written = json.dumps(values, default=_plain)
        return TypeAdapter(kind).validate_json(written, strict=True, by_alias=True, by_name=False)
    except ValidationError as error:
        raise SettingsError("\n".join(in_words(error, kind, key=key, renamed=renamed))) from None


def _fault(value: Any, key: str, depth: int) -> str:
    """What keeps nested values from being JSON, with the key where it stands; empty if nothing does."""
    name = key or "the content"
    if depth > DEEPEST:
        return f"{name} is nested more than {DEEPEST} levels deep"
    if isinstance(value, str) and has_half_character(value):
        return f"{name} must be text, not {_shown(value)}, which holds half of a character"
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"{name} must be a number of at most {_MOST_BITS:,} bits, and has {value.bit_length():,}"
    if isinstance(value, Mapping):
        for inner, item in value.items():
            if not isinstance(inner, str | int | float | None):
                return f"{name} has the key {_shown(inner)}; expected text"
            own = f"{key}.{inner}".removeprefix(".") if isinstance(inner, str) and inner.isprintable() else name
            if fault := _fault(inner, name, depth) or _fault(item, own, depth + 1):
                return fault
    if isinstance(value, list | tuple):
        for number, item in enumerate(value):
            if fault := _fault(item, f"{key}[{number}]", depth + 1):
                return fault
    return ""


def to_values(made: Any) -> dict[str, Any]:
    """Return settings as nested values, as a YAML or JSON file has them."""
    values: dict[str, Any] = TypeAdapter(type(made)).dump_python(made, mode="json", by_alias=True)
    return values


def _plain(value: Any) -> Any:
    """Settings and paths as JSON has them; other objects as text, which no field takes for a value of its own."""
    return to_jsonable_python(value, by_alias=True, fallback=repr)


def keys(kind: Any, prefix: str = "") -> list[str]:
    """Return the dotted keys of a settings class, `group` and `group.key`, those of a union's members once."""
    found: list[str] = []
    for member in groups(kind):
        for name, hint in fields_of(member).items():
            found += [f"{prefix}{name}", *keys(hint, f"{prefix}{name}.")]
    return list(dict.fromkeys(found))


def groups(hint: Any) -> list[Any]:
    """Return the settings classes that a type is, or has among the members of its union."""
    return [member for member in _members(hint) if is_dataclass(member)]


def fields_of(kind: Any) -> dict[str, Any]:
    """Return the types of a settings class by the keys that a file has."""
    hints = get_type_hints(kind, include_extras=True)
    known = getattr(kind, "__pydantic_fields__", {})
    return {(known[name].alias or name) if name in known else name: hints[name] for name in kind.__dataclass_fields__}


def in_words(
    error: ValidationError, kind: Any, *, key: str = "", renamed: Mapping[str, str] | None = None
) -> list[str]:
    """Say for each wrong key what was expected and what was found, and which word may have been meant.

    Args:
        error: What pydantic found.
        kind: The type that was expected.
        key: Dotted key of the values.
        renamed: Former dotted keys with the present ones.
    """
    return list(dict.fromkeys(_message(found, kind, key, renamed or {}) for found in error.errors(include_url=False)))


def _message(found: ErrorDetails, kind: Any, root: str, renamed: Mapping[str, str]) -> str:
    key, hint = _place(kind, found["loc"], root)
    what, value = found["type"], found["input"]
    if what in ("unexpected_keyword_argument", "extra_forbidden"):
        if key in renamed:
            return f"the key '{key}' is now '{renamed[key]}'"
        return f"there is no key '{key}'{did_you_mean(repr(key), keys(kind))}"
    if what == "json_invalid":
        return found["msg"]
    if what == "value_error":
        said = str(found["ctx"]["error"])
        return f"{key}: {said}" if key else said
    if what == "missing" and isinstance(found["loc"][-1], str):
        return f"{key} is missing"
    if what == "missing":  # of a list that is too short
        key, hint = _place(kind, found["loc"][:-1], root)
    if what == "union_tag_invalid":
        key, value = f"{key}.kind", found["ctx"]["tag"]
        hint = Literal[tuple(choice for member in groups(hint) for choice in _choices(fields_of(member)["kind"]))]
    is_range = not what.endswith("_type") and what not in ("literal_error", "union_tag_invalid", "missing", "too_long")
    expected = found["msg"].removeprefix("Input should be ") if is_range else _expected(hint)
    said = f"{key or 'the content'} must be {expected}, not {_shown(value)}"
    return said + (did_you_mean(repr(value), _choices(hint)) if isinstance(value, str) else "")


def _place(kind: Any, location: tuple[int | str, ...], root: str) -> tuple[str, Any]:
    """The dotted key of a place in nested settings, and its type; None for an unknown key."""
    key, hint = root, kind
    for part in location:
        members = _members(hint)
        mapping = next((get_args(member) for member in members if _is_mapping(member)), None)
        items = next((get_args(member) for member in members if get_origin(member) in (tuple, list)), None)
        tagged = [member for member in groups(hint) if part in _choices(fields_of(member).get("kind"))]
        if len(groups(hint)) > 1 and tagged:  # the tag of a union is no key
            hint = tagged[0]
        elif groups(hint):
            inner = fields_of(groups(hint)[0])
            name = list(inner)[part] if isinstance(part, int) else part  # of a call in Python, the place of an argument
            key, hint = f"{key}.{name}", inner.get(name)
        elif mapping is not None:
            key, hint = f"{key}.{part}", mapping[1]
        elif items is not None and isinstance(part, int):
            key, hint = f"{key}[{part}]", items[0 if items[-1] is Ellipsis else min(part, len(items) - 1)]
        elif hint is None or len(members) < 2:  # else it names a member of a union
            key = f"{key}.{part}"
    return key.removeprefix("."), hint


def _members(hint: Any) -> list[Any]:
    """The types that a union has, or the type itself."""
    if get_origin(hint) is Annotated:
        return _members(get_args(hint)[0])
    if get_origin(hint) in (Union, types.UnionType):
        return [member for part in get_args(hint) for member in _members(part)]
    return [hint]


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping)


def _choices(hint: Any) -> list[str]:
    return [str(choice) for member in _members(hint) if get_origin(member) is Literal for choice in get_args(member)]


def _expected(hint: Any) -> str:
    return " or ".join(dict.fromkeys(_kinds(hint)))


def _kinds(hint: Any) -> Iterator[str]:
    for member in _members(hint):
        inner = get_args(member)
        if member in _WORDS:
            yield _WORDS[member]
        elif get_origin(member) is Literal:
            yield f"one of {', '.join(map(str, inner))}"
        elif get_origin(member) in (tuple, list):
            yield "a list" if get_origin(member) is list or inner[-1] is Ellipsis else f"a list of {len(inner)}"
        elif is_dataclass(member):
            yield f"a group of keys ({', '.join(fields_of(member))})"
        else:
            yield "keys and values"


def _shown(value: Any) -> str:
    """A value as YAML has it, text in quotes."""
    plain = {None: "null", True: "true", False: "false"}
    if value is None or isinstance(value, bool):
        return plain[value]
    return one_line(repr(list(value) if isinstance(value, tuple) else value), _LONGEST_VALUE)
