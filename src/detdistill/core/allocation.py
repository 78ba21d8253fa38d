"""Main memory: how much is available, and to whom freed memory goes."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
TRIM_THRESHOLD, MMAP_MAX = -1, -4
"""Parameters of glibc's `mallopt`, by their numbers in its `malloc.h`."""
NEVER = -1


def keep_freed_memory() -> None:
    """Lets this process keep the memory that it frees: the next step will ask for as much again.

    glibc gives large blocks back to the system at once and gets them anew in every step, page by page and filled with
    zeros. Where activations are large that is a sixth of a training step on CPUs (`benchmarks/allocation.py`); to keep
    them costs memory where images differ in size. Nothing happens with a C library without `mallopt`, nor where the
    environment says how glibc is to do it (`MALLOC_TRIM_THRESHOLD_` and its like).
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(MMAP_MAX, 0)
        library.mallopt(TRIM_THRESHOLD, NEVER)


def give_back_freed_memory() -> None:
    """Give the memory that was freed so far back to the system, after a job that needed much of it once."""
    if sys.platform == "linux":
        library = ctypes.CDLL(None)
        if hasattr(library, "malloc_trim"):  # glibc's
            library.malloc_trim(0)


def available_memory() -> int | None:
    """Return the bytes of main memory that can be had without swapping; None where the system does not tell."""
    try:
        lines = MEMINFO.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("MemAvailable:")]
    return int(found[0][1]) * 1024 if found and found[0][1:] and found[0][1].isdigit() else None
