"""Which images form a batch: images of one canvas, in an order that depends on seed, epoch and file names alone.

The samplers yield the epoch with every image, because loading processes live on from epoch to epoch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from detdistill.core.seeds import derived_seed
from detdistill.data.sampling import even_shares


class Draw(NamedTuple):
    """An image of an epoch.

    Attributes:
        epoch: number of the epoch.
        image: position of the image in the dataset.
        counts: False for an image of another process, repeated because there is none for this process in this step.
    """

    epoch: int
    image: int
    counts: bool = True


Size = tuple[int, int]

MOST_CANVASES = 8
"""Different canvases that a training set is padded to at most."""


def training_canvases(canvases: Sequence[Size], *, least: int, most: int = MOST_CANVASES) -> list[Size]:
    """Return the canvas that each image is trained on: one of a few that cover the dataset.

    Two canvases are merged into the smallest one that covers both, the pair first that adds the fewest pixels over the
    dataset, until there are few enough and each has enough images. Each image then takes the smallest canvas that
    covers its own.

    Args:
        canvases: each image's own canvas, height and width in pixels.
        least: images that a canvas is worth having for: a batch of all processes.
        most: largest number of different canvases, at least 1.
    """
    counts = Counter(canvases)
    while len(counts) > 1:
        rarest = min(counts, key=lambda canvas: (counts[canvas], canvas))
        if len(counts) > most:
            pairs = list(combinations(sorted(counts), 2))
        elif counts[rarest] < least:
            pairs = [(rarest, other) for other in sorted(counts) if other != rarest]
        else:
            break
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


class TrainingBatches(Sampler[list[Draw]]):
    """Batches of images of one canvas; every image once an epoch.

    The images of a canvas are spread evenly over as few steps as hold them, so a batch may be smaller than
    `batch_size`. The steps depend on the images of a step over all processes alone: several processes see together
    what one would see. A process for which a step has no image repeats one that does not count.

    Args:
        names: file name of each image.
        canvases: canvas that each image is trained on.
        batch_size: largest number of images per process and step.
        seed: of the run.
        rank: this process, 0 to `world` - 1.
        world: number of processes.
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
        self.names, self.seed, self.rank, self.world = names, seed, rank, world
        groups: dict[Size, list[int]] = defaultdict(list)
        for index, canvas in enumerate(canvases):
            groups[canvas].append(index)
        self._groups = [groups[canvas] for canvas in sorted(groups)]
        self._steps = [-(-len(group) // (batch_size * world)) for group in self._groups]
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch of the next iteration, and the step that it starts with."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return sum(self._steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        steps: list[list[int]] = []
        for group, count in zip(self._groups, self._steps, strict=True):
            order = sorted(group, key=lambda index: derived_seed(self.seed, self.epoch, "order", self.names[index]))
            steps += [order[share.start : share.stop] for share in even_shares(len(order), count)]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        for number in torch.randperm(len(steps), generator=generator).tolist()[self.start :]:
            own = steps[number][self.rank :: self.world]
            yield [Draw(self.epoch, index) for index in own] or [Draw(self.epoch, steps[number][0], counts=False)]


class EvaluationBatches(Sampler[list[Draw]]):
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

    def __iter__(self) -> Iterator[list[Draw]]:
        return iter([[Draw(0, index) for index in batch] for batch in self.batches])
