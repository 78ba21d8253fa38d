"""What jsonargparse says of a wrong value, in the words of a recipe."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace

from detdistill.core.errors import DetdistillError
from detdistill.core.suggestions import did_you_mean

_KEY = re.compile(r'Parser key "([\w.+-]+)":\s*')
_ONE_KIND = re.compile(r"Expected an? (.+?)\. Got value: (.*)")
_OF_SEVERAL_KINDS = re.compile(r"- Expected an? (.+)|- Not a valid sub(class) of")
_INSIDE = re.compile(r"Problem with given class_path '[^']*':\n((?: {8}.*\n)+)")
_GIVEN = re.compile(r"Given value: (.*)")
_NO_GROUP = re.compile(r"Unable to load config [\"'](.*)[\"']")
_WRITTEN = {"": "nothing", "None": "null"}
_WORDS = {
    "float": "a number",
    "int": "an integer",
    "bool": "true or false",
    "str": "text",
    "NoneType": "null",
    "tuple": "a list",
    "list": "a list",
    "dict": "keys and values",
}


def in_words(message: str) -> str:
    """Says what was expected and what was found, and what a misspelt choice may have meant.

    Args:
        message: of jsonargparse.

    Returns:
        Such as `schedule.epochs: expected an integer, not x`; other messages as they are.
    """
    _, *parts = _KEY.split(message)
    if not parts:
        return message
    if inside := _INSIDE.search(message):
        said = in_words(textwrap.dedent(inside[1]).strip())
        return f"{parts[0]}.{said}" if ": expected " in said.partition("\n")[0] else f"{parts[0]}: {said}"
    key, text = _joined(parts[::2]), parts[-1]
    if one := _ONE_KIND.search(text):
        kinds, found = [one[1]], one[2]
    elif given := _GIVEN.search(text):
        kinds, found = ["dict" if match[2] else match[1] for match in _OF_SEVERAL_KINDS.finditer(text)], given[1]
    elif group := _NO_GROUP.search(text):
        kinds, found = ["dict"], group[1]
    else:
        kinds, found = [], ""
    if not kinds:
        return message
    expected = " or ".join(dict.fromkeys(_expected(kind) for kind in kinds))
    said = f"{key}: expected {expected}, not {_WRITTEN.get(found, found)}"
    if found in _WRITTEN:
        return said
    return said + did_you_mean(repr(found), [choice for kind in kinds for choice in _choices(kind)])


def instantiated(parser: ArgumentParser, read: Namespace) -> Namespace:
    """What was read, with its dataclasses made.

    Raises:
        DetdistillError: one of them refuses its values; of one that may also be null jsonargparse makes a ValueError.
    """
    try:
        made: Namespace = parser.instantiate(read)
    except ValueError as error:
        if isinstance(error.__cause__, DetdistillError):
            raise error.__cause__ from None
        raise
    return made


def _joined(keys: Sequence[str]) -> str:
    """The innermost key with all it stands in: jsonargparse tells some keys whole and some from their group on."""
    whole = ""
    for key in keys:
        whole = key if not whole or key == whole or key.startswith(f"{whole}.") else f"{whole}.{key}"
    return whole


def _expected(kind: str) -> str:
    choices = _choices(kind)
    kind = re.sub(r"tuple with (\d+) elements?", r"a list of \1", kind)
    name = re.sub(r"<class '([\w.]+)'>", r"\1", kind).rpartition(".")[2]
    return f"one of {', '.join(choices)}" if choices else _WORDS.get(name, name)


def _choices(kind: str) -> list[str]:
    """Those of `typing.Literal['a', 'b']`; none of `<class 'float'>`."""
    literal = re.search(r"Literal(\[.*\])", kind)
    return [str(choice) for choice in ast.literal_eval(literal[1])] if literal else []
