"""How far a long job is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Protocol, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from detdistill.core.console import print_err
from detdistill.core.texts import one_line

Item = TypeVar("Item")
ItemOut = TypeVar("ItemOut", covariant=True)

PLAIN_STEPS = 10
PATIENCE = 60.0
"""Seconds after which a job is worth a line where there is no terminal."""


class SizedIterable(Protocol[ItemOut]):
    """A list, or a loader of batches."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[ItemOut]: ...


def track(items: SizedIterable[Item], what: str) -> Iterator[Item]:
    """Yields `items` and shows on standard error how many are done: a bar, or at most ten lines if it is no terminal.

    There a job of less than a minute says nothing.

    Args:
        items: what is worked through.
        what: the job, for example `decoding images`.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        start = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            is_step = done * PLAIN_STEPS // len(items) > (done - 1) * PLAIN_STEPS // len(items)
            if is_step and time.monotonic() - start >= PATIENCE:
                print_err(f"{what}: {done} of {len(items)}")
        return
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console, transient=True) as progress:
        yield from progress.track(items, total=len(items), description=one_line(what))
