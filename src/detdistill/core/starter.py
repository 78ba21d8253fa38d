"""Processes that end when the process that started them is gone."""

from __future__ import annotations

import os
import signal
import threading
import time

STARTER = "DETDISTILL_STARTER"
"""Environment variable with the number of the process whose end is the end of the one that it starts."""

_INTERVAL = 0.5  # seconds between two looks at the parent


def ending_with_this_process() -> dict[str, str]:
    """Return the environment variables for a process that calls `end_with_starter` and is to end with this one."""
    return {STARTER: str(os.getpid())}


def end_with_starter() -> None:
    """End this process and its process group by SIGKILL soon after the process that started it is gone.

    A process without the variable `DETDISTILL_STARTER` is not affected. The call must come before slow imports: until
    then nothing watches. Processes that this one starts later, such as those of ddp, end with it in the same way.

    The number of the parent process changes when the parent ends, on every POSIX system. A pipe could be held open by
    another process that inherited it, and Linux's parent-death signal does not exist elsewhere.
    """
    starter = os.environ.get(STARTER)
    if starter is not None:
        os.environ.update(ending_with_this_process())
        threading.Thread(target=_watch, args=(int(starter),), name="starter", daemon=True).start()


def _watch(starter: int) -> None:
    while os.getppid() == starter:
        time.sleep(_INTERVAL)
    os.kill(0, signal.SIGKILL)  # 0 is the process group: the processes that load images, and those of ddp
