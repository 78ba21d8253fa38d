"""What is kept of one student, batch by batch: sums and the worst few, whatever the size of the data set."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from torch import Tensor

from detdistill.analysis.differences import LevelDifference, LinearMap, prediction_maps
from detdistill.analysis.groups import object_groups
from detdistill.analysis.pairing import Candidates, Compared
from detdistill.analysis.ranks import agreement, best, divergence, padded
from detdistill.analysis.sources import RankSources
from detdistill.analysis.tally import Group, Tally
from detdistill.data.loading import Batch
from detdistill.distill.view import View

MEASURES = (
    "top1",
    "tau",
    "rho",
    "divergence",
    "own_best_iou",
    "teacher_best_iou",
    "own_iou_at_teachers_best",
    "candidates",
)
LISTED = 12
"""Candidates of an object that are shown, the teacher's best."""


@dataclass(frozen=True, eq=False)
class ObjectCase:
    """An object on whose candidates two detectors disagree. Boxes are in pixels of the image file.

    Attributes:
        image: index into the data set's images.
        label: of the student.
        box: the object, `(4,)`.
        divergence: Rank Mimicking's loss.
        tau: Kendall's tau-b of the two lists.
        own: the student's probabilities of the teacher's best candidates, in the teacher's order.
        other: the teacher's.
        own_box: of the candidate that the student ranks first, `(4,)`.
        other_box: of the candidate that the teacher ranks first.
        own_iou: of that box with the object.
        other_iou: of that box with the object.
    """

    image: int
    label: int
    box: Tensor
    divergence: float
    tau: float
    own: Tensor
    other: Tensor
    own_box: Tensor
    other_box: Tensor
    own_iou: float
    other_iou: float


@dataclass(frozen=True, eq=False)
class ImageCase:
    """An image in which features and predictions differ much.

    Attributes:
        image: index into the data set's images.
        size: (height, width) of the canvas that is image, not padding, in pixels.
        features: F of each level `(H, W)`.
        predictions: P of each level.
        strides: of the levels.
    """

    image: int
    size: tuple[int, int]
    features: Sequence[Tensor]
    predictions: Sequence[Tensor]
    strides: Sequence[float]


Case = TypeVar("Case")


@dataclass
class Worst(Generic[Case]):
    """The few worst of all cases; of equally bad ones those that came first."""

    keep: int
    heap: list[tuple[float, int, Case]] = field(default_factory=list)
    seen: int = 0

    def wants(self, badness: float) -> bool:
        """Whether a case would be kept."""
        return len(self.heap) < self.keep or badness > self.heap[0][0]

    def add(self, badness: float, case: Case) -> None:
        """Keeps a case that is wanted, in the place of the least bad one."""
        self.seen += 1
        entry = badness, -self.seen, case
        if len(self.heap) < self.keep:
            heapq.heappush(self.heap, entry)
        else:
            heapq.heapreplace(self.heap, entry)

    @property
    def cases(self) -> list[Case]:
        """The worst first."""
        return [case for _, _, case in sorted(self.heap, key=lambda entry: entry[:2], reverse=True)]


@dataclass
class Observation:
    """What was seen of one student so far.

    Args:
        classes: the student's.
        shown: cases of each gallery.
    """

    classes: Sequence[str]
    shown: int
    ranks: Tally = field(default_factory=Tally)
    sources: RankSources = field(default_factory=RankSources)
    levels: dict[float, LevelDifference] = field(default_factory=dict)
    objects: Worst[ObjectCase] = field(init=False)
    images: Worst[ImageCase] = field(init=False)

    def __post_init__(self) -> None:
        """Begins with nothing."""
        self.objects, self.images = Worst(self.shown), Worst(self.shown)

    def add(self, batch: Batch, compared: Compared, maps: Sequence[LinearMap]) -> None:
        """Adds a batch.

        Args:
            batch: the images, with the student's labels.
            compared: what both detectors made of them.
            maps: of each level; empty if the teacher has no features.
        """
        groups = object_groups(batch, self.classes)
        self.sources.add(groups, batch.targets.image, compared)
        if compared.dense is not None:
            self._add_ranks(batch, groups, compared.dense.candidates)
            if maps:
                self._add_differences(batch, compared.dense.view, maps)

    def _add_ranks(self, batch: Batch, groups: Mapping[Group, Tensor], found: Candidates) -> None:
        targets = batch.targets
        objects = len(targets.boxes)
        lists = {
            name: padded(getattr(found, name), found.objects, objects)[0]
            for name in ("own", "other", "own_iou", "other_iou")
        }
        mask = padded(found.own, found.objects, objects)[1]
        has_list = mask.any(dim=1)
        if not bool(has_list.any()):
            return
        ranked = agreement(lists["own"], lists["other"], mask)
        own_best, other_best = (best(lists[name], mask)[:, None] for name in ("own", "other"))
        values = {
            "top1": (own_best == other_best).squeeze(1).float(),
            "tau": ranked.tau,
            "rho": ranked.rho,
            "divergence": divergence(lists["own"], lists["other"], mask),
            "own_best_iou": lists["own_iou"].gather(1, own_best).squeeze(1),
            "teacher_best_iou": lists["other_iou"].gather(1, other_best).squeeze(1),
            "own_iou_at_teachers_best": lists["own_iou"].gather(1, other_best).squeeze(1),
            "candidates": mask.sum(dim=1).float(),
        }
        self.ranks.add({name: chosen & has_list for name, chosen in groups.items()}, values)
        starts = mask.sum(dim=1).cumsum(0) - mask.sum(dim=1)
        for number in ((values["top1"] == 0) & has_list).nonzero().flatten().tolist():
            first = int(starts[number])
            chosen = slice(first, first + int(mask[number].sum()))
            difference = float(values["divergence"][number])
            if self.objects.wants(difference):
                tau = float(ranked.tau[number])
                self.objects.add(difference, _object_case(batch, found, number, chosen, difference, tau))

    def _add_differences(self, batch: Batch, aligned: View, maps: Sequence[LinearMap]) -> None:
        grid = aligned.student.predictions.grid
        features = [
            each.difference(own, other)
            for each, own, other in zip(maps, aligned.student.features.maps, aligned.teacher.features.maps, strict=True)
        ]
        predictions = prediction_maps(aligned.student, aligned.teacher)
        valid = grid.valid_cells(batch.targets.sizes)
        strides = [stride for stride, _ in grid.strides]
        for stride, level, (guide, largest), cells in zip(strides, features, predictions, valid, strict=True):
            self.levels.setdefault(stride, LevelDifference()).add(level, guide, largest, cells)
        for place, index in enumerate(batch.indices):
            gap = float(
                sum((guide[place] * cells[place]).sum() for (guide, _), cells in zip(predictions, valid, strict=True))
            )
            if self.images.wants(gap):
                height, width = (int(side) for side in batch.targets.sizes[place])
                self.images.add(
                    gap,
                    ImageCase(
                        index,
                        (height, width),
                        [level[place].clone().cpu() for level in features],
                        [guide[place].clone().cpu() for guide, _ in predictions],
                        strides,
                    ),
                )


def _object_case(
    batch: Batch, found: Candidates, number: int, chosen: slice, difference: float, tau: float
) -> ObjectCase:
    targets = batch.targets
    place = int(targets.image[number])
    own, other = found.own[chosen], found.other[chosen]
    order = other.argsort(descending=True, stable=True)[:LISTED]
    first, second = int(own.argmax()), int(other.argmax())
    factors = (batch.original_sizes[place] / targets.sizes[place].cpu()).flip(0).repeat(2)
    return ObjectCase(
        batch.indices[place],
        int(targets.labels[number]),
        targets.boxes[number].cpu() * factors,
        difference,
        tau,
        own[order].sigmoid().cpu(),
        other[order].sigmoid().cpu(),
        found.own_boxes[chosen][first].cpu() * factors,
        found.other_boxes[chosen][second].cpu() * factors,
        float(found.own_iou[chosen][first]),
        float(found.other_iou[chosen][second]),
    )
