"""Which processes of this machine belong to a test, as Linux lists them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path


def processes_with(*words: str) -> list[int]:
    """The numbers of the running processes whose command line has all the words; zombies are none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:  # it has ended
            continue
        if set(words) <= set(command):
            found.append(int(folder.name))
    return found


def is_running(process: int) -> bool:
    """Whether a process has not ended; a zombie has."""
    try:
        return "Z" not in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def end_soon(processes: Sequence[int], seconds: float = 60) -> bool:
    """Whether all processes end within a time that is ample on a busy machine."""
    deadline = time.monotonic() + seconds
    while any(map(is_running, processes)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return not any(map(is_running, processes))
