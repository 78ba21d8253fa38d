"""Which images an epoch shows, and in which order: a function of the seed and the epoch, over any number of processes.

The samplers name the epoch with every image, so that loading processes, which live on from epoch to epoch, know it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch.utils.data import Sampler

from detdistill.errors import DataError

EpochAndIndex = tuple[int, int]
"""The epoch, and the position of an image in the data set."""


def derived_seed(*parts: int | str) -> int:
    """A seed, 0 to 2^63 - 1, that depends on all `parts`, the same on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest) >> 1


class TrainingSampler(Sampler[EpochAndIndex]):
    """Every image once an epoch, in an order that is a function of (seed, epoch).

    Of several processes each takes every `world`-th image of that order. All take equally many, so up to `world` - 1
    images sit out an epoch, others each time.

    Args:
        num_images: in the data set.
        seed: of the run.
        rank: this process, 0 to `world` - 1.
        world: number of processes.
    """

    def __init__(self, num_images: int, *, seed: int, rank: int = 0, world: int = 1) -> None:
        if num_images < world:
            raise DataError(f"{num_images} images are too few to train on with {world} processes")
        self.num_images, self.seed, self.rank, self.world = num_images, seed, rank, world
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Chooses the epoch of the next iteration, from the `start`-th image of this process (after a stop)."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return self.num_images // self.world

    def __iter__(self) -> Iterator[EpochAndIndex]:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        order = torch.randperm(self.num_images, generator=generator).tolist()
        mine = order[self.rank :: self.world][: len(self)]
        for index in mine[self.start :]:
            yield self.epoch, index


class EvaluationSampler(Sampler[EpochAndIndex]):
    """Every image exactly once over all processes: process r takes r, r + world, …; nothing is repeated to fill up.

    Args:
        num_images: in the data set.
        rank: this process, 0 to `world` - 1.
        world: number of processes.
    """

    def __init__(self, num_images: int, *, rank: int = 0, world: int = 1) -> None:
        self.indices = range(rank, num_images, world)

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[EpochAndIndex]:
        return iter([(0, index) for index in self.indices])
