"""Names of classes, which YAML and Python users may write as numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detdistill.core.errors import DetdistillError


def class_table(table: Mapping[Any, Any]) -> dict[str, str]:
    """A table of class names with every name as text: `{0: "apple"}` is `{"0": "apple"}`.

    Args:
        table: class name by class name; whole numbers stand for their digits.

    Raises:
        DetdistillError: a name is something else, such as the `false` that YAML makes of `no`, or stands twice.
    """
    names: dict[str, str] = {}
    for key, value in table.items():
        name = _name(key)
        if name in names:
            raise DetdistillError(f"class_map: the class {name!r} is there twice, as text and as a number; remove one")
        names[name] = _name(value)
    return names


def _name(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise DetdistillError(
        f'class_map: {value!r} is not a class name; expected text, such as "cat": put the name in quotes'
    )
