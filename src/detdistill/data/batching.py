"""Which images form a batch: images of one canvas, in an order that depends on seed, epoch and file names alone.

The samplers yield the epoch with every image, because loading processes live on from epoch to epoch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations

import torch
from torch.utils.data import Sampler

from detdistill.data.sampling import derived_seed, even_shares
from detdistill.errors import DataError

EpochAndIndex = tuple[int, int]
"""The epoch, and the position of an image in the dataset."""

Size = tuple[int, int]

MOST_CANVASES = 8
"""Different canvases that a training set is padded to at most."""


def training_canvases(canvases: Sequence[Size], most: int = MOST_CANVASES) -> list[Size]:
    """Return the canvas that each image is trained on: one of a few that cover the dataset.

    Two canvases are merged into the smallest one that covers both, the pair first that adds the fewest pixels over the
    dataset, until few enough are left. Each image then takes the smallest canvas that covers its own.

    Args:
        canvases: each image's own canvas, height and width in pixels.
        most: largest number of different canvases, at least 1.
    """
    counts = Counter(canvases)
    while len(counts) > most:
        pairs = combinations(sorted(counts), 2)
        _, first, second = min((_added_pixels(counts, *pair), *pair) for pair in pairs)
        merged = counts.pop(first) + counts.pop(second)
        counts[_cover(first, second)] += merged
    chosen = {
        own: min((area(canvas), canvas) for canvas in counts if _cover(own, canvas) == canvas)[1]
        for own in set(canvases)
    }
    return [chosen[own] for own in canvases]


def area(canvas: Size) -> int:
    """Return the number of pixels."""
    return canvas[0] * canvas[1]


def _cover(first: Size, second: Size) -> Size:
    return max(first[0], second[0]), max(first[1], second[1])


def _added_pixels(counts: Counter[Size], first: Size, second: Size) -> int:
    whole = area(_cover(first, second))
    return counts[first] * (whole - area(first)) + counts[second] * (whole - area(second))


class TrainingBatches(Sampler[list[EpochAndIndex]]):
    """Batches of images of one canvas; every image once an epoch.

    The images of a canvas are spread evenly over as few batches as hold them, so a batch may be smaller than
    `batch_size`. Processes take batches of one canvas in the same step as far as possible. All take equally many: where
    batches do not divide evenly, some are made smaller. Only if every batch holds a single image, up to `world` - 1
    images are left out of an epoch, different ones each time.

    Args:
        names: file name of each image.
        canvases: canvas that each image is trained on.
        batch_size: largest number of images per process and step.
        seed: of the run.
        rank: this process, 0 to `world` - 1.
        world: number of processes.

    Raises:
        DataError: fewer images than processes.
    """

    def __init__(
        self,
        names: Sequence[str],
        canvases: Sequence[Size],
        *,
        batch_size: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if len(names) < world:
            raise DataError(
                f"{len(names)} images for {world} processes; expected at least one image per process: use fewer "
                "processes (machine.devices, machine.nodes)"
            )
        self.names, self.seed, self.rank, self.world = names, seed, rank, world
        groups: dict[Size, list[int]] = defaultdict(list)
        for index, canvas in enumerate(canvases):
            groups[canvas].append(index)
        self._groups = [groups[canvas] for canvas in sorted(groups)]
        self._shares = _batches_of_groups([len(group) for group in self._groups], batch_size, world)
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch of the next iteration, and the batch of this process that it starts with."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return sum(self._shares) // self.world

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        batches: list[tuple[int, list[int]]] = []
        for number, (group, shares) in enumerate(zip(self._groups, self._shares, strict=True)):
            order = sorted(group, key=lambda index: derived_seed(self.seed, self.epoch, "order", self.names[index]))
            batches += [(number, [order[place] for place in share]) for share in even_shares(len(order), shares)]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        drawn = torch.randperm(len(batches), generator=generator).tolist()[: len(self) * self.world]
        by_canvas = sorted((batches[place] for place in drawn), key=lambda batch: batch[0])
        steps = by_canvas[self.rank :: self.world]
        for number in torch.randperm(len(steps), generator=generator).tolist()[self.start :]:
            yield [(self.epoch, index) for index in steps[number][1]]


def _batches_of_groups(sizes: Sequence[int], batch_size: int, world: int) -> list[int]:
    """Return the number of batches of each group: as few as hold it, and a multiple of `world` in all if possible."""
    batches = [-(-size // batch_size) for size in sizes]
    while sum(batches) % world:
        fullest = max(range(len(sizes)), key=lambda group: sizes[group] / batches[group])
        if batches[fullest] == sizes[fullest]:
            break
        batches[fullest] += 1
    return batches


class EvaluationBatches(Sampler[list[EpochAndIndex]]):
    """Batches of images of one canvas; every image exactly once over all processes.

    Process r takes the images r, r + world, …; the batches follow the order of their first images, and the last batch
    of a canvas may be small.

    Args:
        canvases: canvas of each image.
        batch_size: largest number of images at a time.
        rank: this process, 0 to `world` - 1.
        world: number of processes.
    """

    def __init__(self, canvases: Sequence[Size], *, batch_size: int, rank: int = 0, world: int = 1) -> None:
        groups: dict[Size, list[int]] = defaultdict(list)
        for index in range(rank, len(canvases), world):
            groups[canvases[index]].append(index)
        self.batches = sorted(
            group[start : start + batch_size] for group in groups.values() for start in range(0, len(group), batch_size)
        )

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[EpochAndIndex]]:
        return iter([[(0, index) for index in batch] for batch in self.batches])
