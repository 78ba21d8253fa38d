"""Ids in COCO files, which tools write as 17, 17.0 or "17"."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WHOLE = re.compile(r"([+-]?\d{1,18})(\.0*)?", re.ASCII)


class Ids:
    """Ids of a file, and the indices that they stand for.

    An id that is written in another way, `"17"` or `17.0` for 17, is found as long as it can only mean one.

    Args:
        index_of: Index of every id.
    """

    def __init__(self, index_of: Mapping[Any, int]) -> None:
        self._index_of = dict(index_of)
        self._numbers = as_numbers(list(index_of))  # a search in an array is ten times as fast as in a dictionary
        if self._numbers is not None:
            order = np.argsort(self._numbers)
            self._numbers, self._index = self._numbers[order], np.array(list(index_of.values()))[order]
        self._index_of_number: dict[int, int | None] = {}
        for own_id, index in index_of.items():
            number = whole_number(own_id)
            if number is not None:
                self._index_of_number[number] = None if number in self._index_of_number else index

    def find(self, value: object) -> tuple[int | None, bool]:
        """Return the index of an id, None if there is none, and whether the id was written as in the file."""
        if type(value) in (int, str) and value in self._index_of:
            return self._index_of[value], True
        number = whole_number(value)
        return (None if number is None else self._index_of_number.get(number)), False

    def find_all(self, values: Sequence[int | str]) -> NDArray[np.int64] | None:
        """Return the indices of ids, at least one, that are all written as in the file; None if one is not."""
        numbers = as_numbers(values)
        if numbers is None or self._numbers is None:
            indices = [self._index_of.get(value, -1) for value in values]
            return None if -1 in indices else np.array(indices, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._numbers, numbers), len(self._numbers) - 1)
        return self._index[places] if (self._numbers[places] == numbers).all() else None


def whole_number(value: object) -> int | None:
    """Return the whole number that an id is, as in 17, 17.0, "17" and "17.0"; None if it is none."""
    if isinstance(value, str):
        match = _WHOLE.fullmatch(value.strip())
        return int(match[1]) if match else None
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def as_numbers(ids: Sequence[Any]) -> NDArray[np.int64] | None:
    """Return ids that are all whole numbers as an array; None if one is not, or is too large."""
    if set(map(type, ids)) != {int}:
        return None
    try:
        return np.array(ids, dtype=np.int64)
    except OverflowError:
        return None
