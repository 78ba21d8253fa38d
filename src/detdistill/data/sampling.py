"""Samples and even shares that depend on names and numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from detdistill.core.seeds import derived_seed

Item = TypeVar("Item")


def shuffled(items: Iterable[Item], name: Callable[[Item], str]) -> list[Item]:
    """Return the items in an order that looks random and depends on their names alone."""
    return sorted(items, key=lambda item: derived_seed("sample", name(item)))


def sample(items: Sequence[Item], count: int, name: Callable[[Item], str]) -> list[Item]:
    """Draw items at random, always the same ones, and return them in their order.

    The first items of a dataset are no sample of it: files are often sorted by class, by camera or by time.

    Args:
        items: to draw from.
        count: number of items to draw; all where there are fewer. A larger sample holds every smaller one.
        name: the name of an item, which alone decides whether it is drawn before another.
    """
    order = shuffled(range(len(items)), lambda index: name(items[index]))
    return [items[index] for index in sorted(order[: max(count, 0)])]


def even_shares(count: int, shares: int) -> list[range]:
    """Cut `range(count)` into consecutive ranges whose lengths differ by at most one, the longer ones first."""
    least, longer = divmod(count, shares)
    starts = [number * least + min(number, longer) for number in range(shares + 1)]
    return [range(start, stop) for start, stop in pairwise(starts)]
