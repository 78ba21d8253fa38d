"""Seeds, samples and even shares that depend on names and numbers alone."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

Item = TypeVar("Item")


def derived_seed(*parts: int | str) -> int:
    """Return a seed, 0 to 2^63 - 1, that depends on all `parts`, the same on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


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
