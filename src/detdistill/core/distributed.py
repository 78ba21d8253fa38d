"""What the processes of one job share. Readable without torch."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from detdistill.core.console import print_err

if TYPE_CHECKING:
    from torch import Tensor

RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_PROCID")
"""Environment variables in which torchrun, SLURM and lightning-fabric number processes; all 0 in the first process."""

Share = TypeVar("Share")
Outcome = TypeVar("Outcome")


def is_first_process() -> bool:
    """Whether this is the process that prepares the folder and prints, even before the processes have met."""
    return not any(int(os.environ.get(name, "0")) for name in RANKS)


def note(text: str) -> None:
    """Print a note to stderr, in the first process only."""
    if is_first_process():
        print_err(f"note: {text}")


def rank_and_world() -> tuple[int, int]:
    """The number of this process and of all of them, as `torch.distributed` knows them; 0 and 1 without it."""
    import torch.distributed as dist

    return (dist.get_rank(), dist.get_world_size()) if dist.is_available() and dist.is_initialized() else (0, 1)


@contextmanager
def sharing_images() -> Iterator[None]:
    """Join this process with the others that torchrun started; alone, there is nothing to do.

    `predict` and `score` then share the images. Only results are exchanged, which gloo does on every machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    import torch.distributed as dist

    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def summed(value: Tensor) -> Tensor:
    """Sum a tensor over all processes, without gradient; it stays as it is where there is only one."""
    import torch.distributed as dist

    if rank_and_world()[1] == 1:
        return value
    total = value.detach().clone()
    dist.all_reduce(total)
    return total


def computed_once(share: Share, compute: Callable[[list[Share]], Outcome]) -> Outcome:
    """Compute something from the shares of all processes, in the first process.

    Args:
        share: this process's, of any type that can be pickled.
        compute: makes the outcome of all shares, in order of the processes.

    Returns:
        The outcome, in every process.

    Raises:
        Exception: what `compute` raised in the first process, in every process.
    """
    import torch.distributed as dist

    rank, world = rank_and_world()
    if world == 1:
        return compute([share])
    shares: list[Any] = [None] * world
    dist.gather_object(share, shares if rank == 0 else None)
    outcome: list[Any] = [None, None]
    if rank == 0:
        # The other processes wait for the outcome: an error must reach them, too.
        try:
            outcome[0] = compute(shares)
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: Outcome = outcome[0]
    return result
