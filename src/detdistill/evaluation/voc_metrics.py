"""PASCAL VOC's average precision (Everingham et al., IJCV 2010, section 4.2; the development kits of 2007 and 2010).

Boxes are edges in continuous coordinates: a width is x2 - x1. The development kit counts pixels, both ends included,
x2 - x1 + 1; its boxes become ours when 1 is subtracted from x1 and y1 as they are read, and the overlaps are then the
same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset
from detdistill.evaluation.results import Results

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

Interpolation = Literal["11-point", "all-point"]


@dataclass(frozen=True)
class VocMetrics:
    """Scores of 0 to 1, or None where there is no object to find.

    Attributes:
        mean: mAP, the mean over the classes that have objects.
        per_class: AP by class name, in the data set's order.
    """

    mean: float | None
    per_class: dict[str, float | None]


@dataclass(frozen=True, eq=False)
class Ranking:
    """The K detections of one class that count, best score first.

    Attributes:
        scores: `(K,)`.
        right: `(K,)` whether each found an object.
        total: number of objects to find.
    """

    scores: FloatArray
    right: NDArray[np.bool_]
    total: int


@dataclass(frozen=True, eq=False)
class Verdicts:
    """K detections, best score first, and whether each is right.

    Attributes:
        order: `(K,)` their places in the results.
        objects: `(K,)` the object of its image and class that each overlaps most, an index into the objects of all
            images; -1 where no overlap reaches the threshold.
        counts: `(K,)` False for those whose object is difficult or a crowd region.
        right: `(K,)` whether each is the first to find its object.
    """

    order: IntArray
    objects: IntArray
    counts: NDArray[np.bool_]
    right: NDArray[np.bool_]


def rank_detections(dataset: DetectionDataset, results: Results, iou_threshold: float = 0.5) -> dict[str, Ranking]:
    """Tells right detections from wrong ones as VOC's development kit does.

    In order of their scores, each detection takes the object of its image and class that it overlaps most. It is right
    if the overlap reaches the threshold and the object was not taken before, else wrong; it counts neither way if that
    object is difficult. COCO's crowd regions are treated as difficult objects.

    Args:
        dataset: the ground truth.
        results: the detections.
        iou_threshold: the least intersection over union of a right detection.

    Returns:
        A ranking for each class, by name, in the data set's order.
    """
    judged = judge(dataset, results, iou_threshold)
    labels, total = results.labels[judged.order], objects_to_find(dataset)
    rankings = {}
    for label, name in enumerate(dataset.classes):
        chosen = judged.counts & (labels == label)
        rankings[name] = Ranking(results.scores[judged.order][chosen], judged.right[chosen], int(total[label]))
    return rankings


def objects_to_find(dataset: DetectionDataset) -> IntArray:
    """Return the number of objects of each class `(C,)`, without difficult ones and crowd regions."""
    found = ~(dataset.images.difficult | dataset.images.crowd)
    return np.bincount(dataset.images.labels[found], minlength=len(dataset.classes))


def image_f1(dataset: DetectionDataset, results: Results, iou_threshold: float = 0.5) -> FloatArray:
    """Return the F1 of all detections in each image, over all classes.

    A detection is right, wrong or does not count as in `rank_detections`.

    Args:
        dataset: the ground truth.
        results: the detections, all of which are shown to a user.
        iou_threshold: the least intersection over union of a right detection.

    Returns:
        `(N,)` 0 to 1; NaN for an image with neither objects nor detections that count.
    """
    ignored = dataset.images.difficult | dataset.images.crowd
    judged = judge(dataset, results, iou_threshold)
    number, image = len(dataset.images), results.image[judged.order]
    objects = np.bincount(dataset.images.image_of_object[~ignored], minlength=number)
    found = np.bincount(image[judged.counts], minlength=number) + objects
    hits = np.bincount(image[judged.counts & judged.right], minlength=number)
    f1: FloatArray = np.divide(2.0 * hits, found, out=np.full(number, np.nan), where=found > 0)
    return f1


def judge(dataset: DetectionDataset, results: Results, iou_threshold: float = 0.5) -> Verdicts:
    """Decide which detections are right; arguments and rules as in `rank_detections`."""
    order = np.lexsort((results.image, -results.scores))
    objects = _most_overlapped(dataset, results, iou_threshold)[order]
    # Index -1, a detection without an object, finds the False that is put at the end.
    counts = ~np.append(dataset.images.difficult | dataset.images.crowd, False)[objects]
    right = np.zeros(len(order), dtype=bool)
    right[np.unique(objects, return_index=True)[1]] = True
    return Verdicts(order, objects, counts, right & (objects >= 0))


def voc_metrics(
    dataset: DetectionDataset, results: Results, *, interpolation: Interpolation, iou_threshold: float = 0.5
) -> VocMetrics:
    """Average precision as VOC's development kit computes it, from `rank_detections`.

    Args:
        dataset: the ground truth.
        results: the detections.
        interpolation: the mean of the precision at eleven recalls (VOC2007 to 2009), or the area under the curve of
            precision over recall (since VOC2010); both with the precision made to fall with the recall.
        iou_threshold: the least intersection over union of a right detection.
    """
    average_precision = eleven_point if interpolation == "11-point" else all_point
    rankings = rank_detections(dataset, results, iou_threshold)
    per_class = {
        name: average_precision(ranking.right, ranking.total) if ranking.total else None
        for name, ranking in rankings.items()
    }
    defined = [value for value in per_class.values() if value is not None]
    return VocMetrics(float(np.mean(defined)) if defined else None, per_class)


def eleven_point(right: NDArray[np.bool_], total: int) -> float:
    """Mean over the recalls 0, .1, … 1 of the best precision at that recall or a higher one.

    Args:
        right: `(K,)` whether each detection is right, best score first.
        total: number of objects, at least 1.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    # In whole numbers: .1 + .1 + .1 exceeds .3, and 3 of 10 objects would miss the fourth point.
    reached = [precision[hits * 10 >= tenth * total] for tenth in range(11)]
    return float(np.mean([values.max(initial=0) for values in reached]))


def all_point(right: NDArray[np.bool_], total: int) -> float:
    """Area under the best precision at each recall or a higher one.

    Args:
        right: `(K,)` whether each detection is right, best score first.
        total: number of objects, at least 1.
    """
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    falling = np.maximum.accumulate(precision[::-1])[::-1]
    return float(falling[right].sum() / total)


def _most_overlapped(dataset: DetectionDataset, results: Results, iou_threshold: float) -> IntArray:
    """The object of its image and class that each detection overlaps most, the first of equals.

    Returns:
        `(K,)` index into the objects of all images, one image after the other; -1 where the overlap is below the
        threshold.
    """
    chosen = np.full(len(results), -1)
    boxes, labels = dataset.images.boxes, dataset.images.labels
    if not len(results) or not len(labels):
        return chosen
    wanted = results.image * len(dataset.classes) + results.labels
    detection, objects = pairs_of_key(wanted, dataset.images.image_of_object * len(dataset.classes) + labels)
    if not len(detection):
        return chosen
    candidates, starts, length = np.unique(detection, return_index=True, return_counts=True)
    overlap = paired_iou(results.boxes[detection], boxes[objects])
    best = np.maximum.reduceat(overlap, starts)
    is_best = overlap == np.repeat(best, length)
    winner = np.minimum.reduceat(np.where(is_best, objects, len(boxes)), starts)
    chosen[candidates] = np.where(best >= iou_threshold, winner, -1)
    return chosen


def pairs_of_key(first: IntArray, second: IntArray) -> tuple[IntArray, IntArray]:
    """Return the places of all pairs of equal keys in two lists `(K,)` and `(M,)`, in the order of both."""
    by_key = np.argsort(second, kind="stable")
    start, stop = (np.searchsorted(second[by_key], first, side=side) for side in ("left", "right"))
    length = stop - start
    pair = np.repeat(np.arange(len(first)), length)
    return pair, by_key[np.arange(len(pair)) + np.repeat(start - (np.cumsum(length) - length), length)]


def paired_iou(first: FloatArray, second: FloatArray) -> FloatArray:
    """`(K,)` intersection over union of each pair of `(K, 4)` boxes; the second ones have an area."""
    sides = np.minimum(first[:, 2:], second[:, 2:]) - np.maximum(first[:, :2], second[:, :2])
    intersection: FloatArray = sides.clip(min=0).prod(axis=1)
    areas: FloatArray = (first[:, 2:] - first[:, :2]).prod(axis=1) + (second[:, 2:] - second[:, :2]).prod(axis=1)
    overlap: FloatArray = intersection / (areas - intersection)
    return overlap
