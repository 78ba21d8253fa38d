"""Which images form a batch: images of one canvas, in an order that depends on seed, epoch and file names alone.

The samplers yield the epoch with every image, because loading processes live on from epoch to epoch.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from torch.utils.data import Sampler

from detdistill.core.seeds import derived_seed
from detdistill.data.sampling import even_shares


class Draw(NamedTuple):
    """An image of an epoch.

    Attributes:
        epoch: number of the epoch, or of the pass over the unlabelled images; with the image's name it decides how the
            image is varied.
        image: position of the image in the dataset.
        counts: False for an image of another process, repeated because there is none for this process in this step.
    """

    epoch: int
    image: int
    counts: bool = True


Size = tuple[int, int]

MOST_CANVASES = 8
"""Different canvases that a training set is padded to at most."""


def training_canvases(
    canvases: Sequence[Size], *, least: int, most: int = MOST_CANVASES, unlabelled: Sequence[Size] = (), share: int = 0
) -> list[Size]:
    """Return the canvas that each image is trained on: one of a few that cover the dataset.

    Two canvases are merged into the smallest one that covers both, the pair first that adds the fewest pixels over the
    dataset, until there are few enough and each has enough images. Each image then takes the smallest canvas that
    covers its own.

    Args:
        canvases: each image's own canvas, height and width in pixels.
        least: images that a canvas is worth having for: a batch of all processes.
        most: largest number of different canvases, at least 1.
        unlabelled: the own canvases of images without annotations.
        share: images of these that a canvas needs, to fill a batch with images that are annotated.

    Returns:
        The canvas of each image, and then of each unlabelled one.
    """
    parts = [(Counter(canvases), least), *([(Counter(unlabelled), share)] if unlabelled else [])]
    everything = [*canvases, *unlabelled]
    counts = Counter(everything)
    while len(counts) > 1:
        rarest = [canvas for canvas in counts if any(own[canvas] < enough for own, enough in parts)]
        if len(counts) > most:
            pairs = list(combinations(sorted(counts), 2))
        elif rarest:
            pairs = _with_others(counts, rarest)
        else:
            break
        _merge(counts, parts, pairs)
    while True:
        chosen = _smallest_covering(everything, counts)
        used = [Counter(chosen[: len(canvases)]), Counter(chosen[len(canvases) :])]
        lacking = [canvas for canvas in set(chosen) if not used[0][canvas] or used[1][canvas] < share]
        if not unlabelled or not lacking or len(counts) == 1:
            return chosen
        _merge(counts, parts, _with_others(counts, lacking))


def _smallest_covering(canvases: Sequence[Size], offered: Collection[Size]) -> list[Size]:
    smallest = {
        own: min((area(canvas), canvas) for canvas in offered if _cover(own, canvas) == canvas)[1]
        for own in set(canvases)
    }
    return [smallest[own] for own in canvases]


def _with_others(counts: Counter[Size], lacking: Collection[Size]) -> list[tuple[Size, Size]]:
    """Pairs of the rarest of the canvases that lack images with each other canvas."""
    rarest = min(lacking, key=lambda canvas: (counts[canvas], canvas))
    return [(rarest, other) for other in sorted(counts) if other != rarest]


def _merge(counts: Counter[Size], parts: Sequence[tuple[Counter[Size], int]], pairs: list[tuple[Size, Size]]) -> None:
    """Merge the pair that adds the fewest pixels."""
    _, first, second = min((_added_pixels(counts, *pair), *pair) for pair in pairs)
    for own in (counts, *(part for part, _ in parts)):
        merged = own.pop(first, 0) + own.pop(second, 0)
        own[_cover(first, second)] += merged


def area(canvas: Size) -> int:
    """Return the number of pixels."""
    return canvas[0] * canvas[1]


def _cover(first: Size, second: Size) -> Size:
    return max(first[0], second[0]), max(first[1], second[1])


def _added_pixels(counts: Counter[Size], first: Size, second: Size) -> int:
    whole = area(_cover(first, second))
    return counts[first] * (whole - area(first)) + counts[second] * (whole - area(second))


class TrainingBatches(Sampler[list[Draw]]):
    """Batches of images of one canvas; every annotated image once an epoch.

    The images of a canvas are spread evenly over as few steps as hold them, so a batch may be smaller than
    `batch_size`. The steps depend on the images of a step over all processes alone: several processes see together
    what one would see. A process for which a step has no image repeats one that does not count.

    Where there are unlabelled images, each step takes its share of those of its canvas. They are drawn without
    replacement, one pass over them after the other, whatever the epoch.

    Args:
        names: file name of each image.
        canvases: canvas that each image is trained on.
        batch_size: largest number of images per process and step.
        seed: of the run.
        rank: this process, 0 to `world` - 1.
        world: number of processes.
        num_labelled: number of the first images, which are annotated; None for all.
        unlabelled_share: images without annotations in a step of all processes.
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
        num_labelled: int | None = None,
        unlabelled_share: int = 0,
    ) -> None:
        self.names, self.seed, self.rank, self.world = names, seed, rank, world
        self._share = unlabelled_share
        groups: dict[Size, list[int]] = defaultdict(list)
        others: dict[Size, list[int]] = defaultdict(list)
        for index, canvas in enumerate(canvases):
            (groups if num_labelled is None or index < num_labelled else others)[canvas].append(index)
        self._groups = [groups[canvas] for canvas in sorted(groups)]
        self._streams = [_Passes(names, others[canvas], seed) for canvas in sorted(groups)]
        own = batch_size * world - unlabelled_share
        self._steps = [-(-len(group) // own) for group in self._groups]
        self.epoch = 0
        self.start = 0

    def set_epoch(self, epoch: int, start: int = 0) -> None:
        """Choose the epoch of the next iteration, and the step that it starts with."""
        self.epoch, self.start = epoch, start

    def __len__(self) -> int:
        return sum(self._steps)

    def __iter__(self) -> Iterator[list[Draw]]:
        steps: list[tuple[list[int], int]] = []
        for number, (group, count) in enumerate(zip(self._groups, self._steps, strict=True)):
            order = sorted(group, key=lambda index: derived_seed(self.seed, self.epoch, "order", self.names[index]))
            steps += [(order[share.start : share.stop], number) for share in even_shares(len(order), count)]
        generator = torch.Generator().manual_seed(derived_seed(self.seed, self.epoch))
        taken = [self.epoch * count for count in self._steps]  # steps of each canvas so far
        for place, step in enumerate(torch.randperm(len(steps), generator=generator).tolist()):
            labelled, number = steps[step]
            first = taken[number] * self._share
            taken[number] += 1
            if place >= self.start:
                drawn = [Draw(self.epoch, index) for index in labelled]
                drawn += self._streams[number].take(first, self._share)
                yield drawn[self.rank :: self.world] or [Draw(self.epoch, labelled[0], counts=False)]


class _Passes:
    """Images in one random order after the other, without end."""

    def __init__(self, names: Sequence[str], images: Sequence[int], seed: int) -> None:
        self._names, self._images, self._seed = names, images, seed
        self._pass, self._order = -1, list[int]()

    def take(self, first: int, count: int) -> list[Draw]:
        """Draw `count` images from place `first` on; none if there are no images."""
        if not self._images:
            return []
        return [self._at(*divmod(place, len(self._images))) for place in range(first, first + count)]

    def _at(self, number: int, place: int) -> Draw:
        if number != self._pass:
            order = sorted(
                self._images, key=lambda index: derived_seed(self._seed, number, "unlabelled", self._names[index])
            )
            self._pass, self._order = number, order
        return Draw(number, self._order[place])


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
