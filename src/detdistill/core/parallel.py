"""Work on many files by several processes."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from typing import TypeVar

from detdistill.core.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

_MANY = 20  # blocks; fewer are done before the processes have started

# Loaded here: in a fork, another thread's lock on the loader would be held for ever.
_LIBC = ctypes.CDLL(None) if sys.platform.startswith("linux") else None
_PR_SET_PDEATHSIG = 1  # Linux: the signal that a process gets when the one that started it ends


def work_through(
    items: Sequence[Item], work: Callable[[Item], Result], what: str, *, block: int = 250
) -> Iterator[Result]:
    """Yield the result for each item, in order, and show how far it is.

    Many items are worked on by all processors that this process may use; on systems that cannot fork, by one.

    Args:
        items: What is worked on, for example file names.
        work: A function at the top of a module. Its results, and errors that it raises, are sent between processes.
        what: The job, for example `reading labels`.
        block: Number of items that a process takes at a time, as many as take some 10 ms. Fewer than 20 blocks are
            worked on by one process.
    """
    # A process of another pool may start none of its own.
    processes = 1 if multiprocessing.current_process().daemon else usable_processors()
    if len(items) < _MANY * block or processes == 1 or not sys.platform.startswith("linux"):
        yield from map(work, track(items, what))
        return
    blocks = [items[start : start + block] for start in range(0, len(items), block)]
    # A fork needs no importable main module, and neither torch nor its threads are used in it. Not multiprocessing's
    # Pool: it ends its processes while they may hold a lock, and then waits for ever.
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(processes, context, end_with_parent) as pool:
        results = pool.map(partial(_work_on, work), blocks)
        yield from chain.from_iterable(next(results) for _ in track(blocks, f"{what}, {block} at a time"))


def usable_processors() -> int:
    """Return how many processors each process of a run on this machine may use."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(processors // int(os.environ.get("LOCAL_WORLD_SIZE", "1")), 1)


def end_with_parent() -> None:
    """Make this process end when its parent ends or tells it to, however that is, and leave Ctrl-C to the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a parent's own handler is inherited
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _work_on(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    return list(map(work, items))
