"""Where the AP goes: the kinds of errors, and what each costs (in the manner of TIDE, Bolya et al., ECCV 2020).

A detection is right if it overlaps an object of its class at IoU .5 or more that no better one has taken. Else it is of
the wrong class, badly localised, both, a duplicate, or on background; an object that is neither found nor the object of
one of the first two errors is missed. What a kind costs is the AP50 that is gained when it alone is mended: a wrong
class is set right, a bad box becomes the object's, unless its object is found already; the other detections are left
out, missed objects are not looked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.boxes import SMALLEST_AREA, aligned_intersection, box_area, pairwise_iou
from detdistill.evaluation.coco_metrics import CocoScores, coco_metrics
from detdistill.evaluation.results import Results, to_xywh

Kind = Literal["classification", "localization", "both", "duplicate", "background", "missed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
RIGHT, IGNORED = -1, -2
FOUND, NEAR = 0.5, 0.1
SIZES = ("small", "medium", "large")
BORDERS = SMALL, MEDIUM = 32.0**2, 96.0**2
"""COCO's borders of small, medium and large, in square pixels of the image file."""


@dataclass(frozen=True, eq=False)
class Errors:
    """The errors of a detector.

    Attributes:
        counts: by kind; of detections, or of objects for `missed`.
        costs: AP50 lost, 0 to 1; None where there is no AP50.
        costs_by_class: AP50 lost of each class.
        counts_by_size: by COCO's size of the object that a detection is near, or of its own box on background.
    """

    counts: dict[Kind, int]
    costs: dict[Kind, float | None]
    costs_by_class: dict[str, dict[Kind, float | None]]
    counts_by_size: dict[str, dict[Kind, int]]


@dataclass(frozen=True, eq=False)
class Judged:
    """Detections of an image, best first, and what is wrong with each.

    Attributes:
        order: `(K,)` their places in the results.
        kinds: `(K,)` index into `KINDS`, `RIGHT`, or `IGNORED` (on a crowd).
        objects: `(K,)` the object that it is near, -1 for none.
        missed: `(n,)` bool, objects that are missed.
        taken: `(n,)` bool, objects that are found.
    """

    order: NDArray[np.int64]
    kinds: NDArray[np.int64]
    objects: NDArray[np.int64]
    missed: NDArray[np.bool_]
    taken: NDArray[np.bool_]


def errors_of(dataset: DetectionDataset, results: Results) -> Errors:
    """Counts a detector's errors and what they cost.

    Args:
        dataset: the ground truth.
        results: the detections, with the data set's labels.
    """
    by_image = np.argsort(results.image, kind="stable")
    bounds = np.searchsorted(results.image[by_image], np.arange(len(dataset.images) + 1))
    judged = [
        judge(record, results, by_image[start:end])
        for record, start, end in zip(dataset.images, bounds[:-1], bounds[1:], strict=True)
    ]
    now = coco_metrics(dataset, results)
    better = {kind: coco_metrics(*_mended(dataset, results, judged, kind)) for kind in KINDS}
    by_size = _counts(dataset, results, judged)
    return Errors(
        {kind: sum(by_size[size][kind] for size in SIZES) for kind in KINDS},
        {kind: _cost(now, better[kind]) for kind in KINDS},
        {
            name: {kind: _cost(now.per_class[name], better[kind].per_class[name]) for kind in KINDS}
            for name in dataset.classes
        },
        by_size,
    )


def _cost(now: CocoScores, better: CocoScores) -> float | None:
    if now.AP50 is None:
        return None
    # Where all objects were missed, nothing is left to find once they are left out: all that there was is lost.
    return 1 - now.AP50 if better.AP50 is None else max(0.0, better.AP50 - now.AP50)


def _counts(dataset: DetectionDataset, results: Results, judged: Sequence[Judged]) -> dict[str, dict[Kind, int]]:
    """The errors of each size and kind."""
    places = [np.zeros(0, np.int64)]
    for record, one in zip(dataset.images, judged, strict=True):
        areas = results.xywh[one.order, 2:].prod(axis=1)
        near = one.objects >= 0
        areas[near] = record.areas[one.objects[near]]
        wrong = one.kinds >= 0
        places.append(_size(areas[wrong]) * len(KINDS) + one.kinds[wrong])
        places.append(_size(record.areas[one.missed]) * len(KINDS) + KINDS.index("missed"))
    counts = np.bincount(np.concatenate(places), minlength=len(SIZES) * len(KINDS)).reshape(len(SIZES), -1)
    return {
        size: {kind: int(count) for kind, count in zip(KINDS, row, strict=True)}
        for size, row in zip(SIZES, counts, strict=True)
    }


def _size(areas: NDArray[np.float64]) -> NDArray[np.int64]:
    """Index into `SIZES`."""
    return np.searchsorted(BORDERS, areas, side="right")


def judge(record: ImageRecord, results: Results, places: NDArray[np.int64]) -> Judged:
    """What is wrong with the detections in an image.

    Args:
        record: the image and its objects.
        results: all detections.
        places: those of this image.
    """
    order = places[np.argsort(-results.scores[places], kind="stable")]
    boxes, targets = torch.from_numpy(results.boxes[order]), torch.from_numpy(record.boxes)
    crowd, single = targets[torch.from_numpy(record.crowd)], ~record.crowd
    iou = pairwise_iou(boxes, targets).numpy() * single
    on_crowd = _within(boxes, crowd) & ~(iou >= FOUND).any(axis=1)
    same = record.labels[None, :] == results.labels[order][:, None]
    count = len(record.labels)
    taken = np.zeros(count, dtype=bool)
    kinds = np.full(len(order), RIGHT, dtype=np.int64)
    objects = np.full(len(order), -1, dtype=np.int64)
    for number in range(len(order)):
        kinds[number], objects[number] = (
            (IGNORED, -1) if on_crowd[number] else _verdict(iou[number], same[number], taken)
        )
        if kinds[number] == RIGHT:
            taken[objects[number]] = True
    nearly = np.zeros(count, dtype=bool)
    nearly[objects[np.isin(kinds, (KINDS.index("classification"), KINDS.index("localization")))]] = True
    return Judged(order, kinds, objects, ~taken & ~nearly & ~record.crowd, taken)


def _within(boxes: Tensor, regions: Tensor) -> NDArray[np.bool_]:
    """Whether at least half of each box lies in one of these regions, as COCO measures it for crowds."""
    inside = aligned_intersection(boxes[:, None], regions[None]) / box_area(boxes).clamp(min=SMALLEST_AREA)[:, None]
    return np.asarray((inside >= FOUND).any(dim=1).numpy(), dtype=bool)


def _verdict(iou: NDArray[np.float64], same: NDArray[np.bool_], taken: NDArray[np.bool_]) -> tuple[int, int]:
    """Kind and object of a detection with these overlaps `(n,)` with the objects."""
    own, other = np.where(same, iou, 0.0), np.where(same, 0.0, iou)
    free = np.where(taken, 0.0, own)
    if free.max(initial=0) >= FOUND:
        return RIGHT, int(free.argmax())
    if own.max(initial=0) >= FOUND:
        return KINDS.index("duplicate"), int(own.argmax())
    if other.max(initial=0) >= FOUND:
        return KINDS.index("classification"), int(other.argmax())
    if own.max(initial=0) >= NEAR:
        return KINDS.index("localization"), int(own.argmax())
    if other.max(initial=0) >= NEAR:
        return KINDS.index("both"), int(other.argmax())
    return KINDS.index("background"), -1


def _mended(
    dataset: DetectionDataset, results: Results, judged: list[Judged], kind: Kind
) -> tuple[DetectionDataset, Results]:
    """Ground truth and detections without the errors of a kind."""
    if kind == "missed":
        images = [record.keep(~one.missed) for record, one in zip(dataset.images, judged, strict=True)]
        return replace(dataset, images=ImageTable.of(images)), results
    number = KINDS.index(kind)
    keep = np.ones(len(results), dtype=bool)
    boxes, labels = results.xywh.copy(), results.labels.copy()
    for record, one in zip(dataset.images, judged, strict=True):
        taken = one.taken.copy()
        for place, found in zip(one.order[one.kinds == number], one.objects[one.kinds == number], strict=True):
            if kind not in ("classification", "localization") or taken[found]:
                keep[place] = False
                continue
            taken[found] = True
            labels[place] = record.labels[found]
            if kind == "localization":
                boxes[place] = to_xywh(record.boxes[found][None])[0]
    return dataset, Results(results.image[keep], boxes[keep], results.scores[keep], labels[keep])
