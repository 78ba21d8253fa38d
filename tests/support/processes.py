"""Processes that start at once: one process imports what takes 10 s, and the others are its forks."""

from __future__ import annotations

import multiprocessing
import os
import socket
from collections.abc import Callable

import torch

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(
    [
        "pytest",
        "hypothesis",
        "detdistill.cli",
        "detdistill.training.run",
        "detdistill.evaluation.score",
        "detdistill.evaluation.voc_metrics",
    ]
)


def run_one(target: Callable[..., None], *arguments: object) -> int | None:
    """Call a function of a module in another process of one thread, and return its exit code."""
    process = FORKS.Process(target=_run, args=({}, target, arguments))
    process.start()
    process.join()
    return process.exitcode


def run_two(target: Callable[..., None], *arguments: object) -> list[int | None]:
    """Call a function of a module in two processes that can meet through gloo, as `torchrun` would start them.

    Args:
        target: called with the rank and the arguments, in a process of one thread.
        arguments: that can be pickled.

    Returns:
        The exit codes.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = [
        FORKS.Process(target=_run, args=(place | {"LOCAL_RANK": str(rank)}, target, (rank, *arguments)))
        for rank in range(2)
    ]
    for started in processes:
        started.start()
    for started in processes:
        started.join()
    return [started.exitcode for started in processes]


def _run(environment: dict[str, str], target: Callable[..., None], arguments: tuple[object, ...]) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*arguments)
