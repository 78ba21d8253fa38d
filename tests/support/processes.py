"""Two processes that meet through gloo, as `torchrun` would start them."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

import torch

_IMPORTED = (
    "pytest",
    "hypothesis",
    "detdistill.cli",
    "detdistill.training.distillation",
    "detdistill.evaluation.score",
    "detdistill.evaluation.voc_metrics",
)
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    list(_IMPORTED)
)  # one process imports them, which takes 10 s, and all others are its forks


def run_two(target: Callable[..., None], *arguments: object) -> list[int | None]:
    """Call a function of a module in two processes at once, and wait for both.

    Args:
        target: called with the rank and the arguments, in a process of one thread whose environment names the rank and
            where to meet.
        arguments: that can be pickled.

    Returns:
        The exit codes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [_FORKS.Process(target=_run, args=(rank, port, target, arguments)) for rank in range(2)]
    for started in processes:
        started.start()
    for started in processes:
        started.join()
    return [started.exitcode for started in processes]


def _run(rank: int, port: int, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.environ.update(LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    target(rank, *arguments)
