"""Which classes a detector takes for one another, what it misses, and what it finds where nothing is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detdistill.core.annotations import DetectionDataset
from detdistill.evaluation.results import Results
from detdistill.evaluation.voc_metrics import FloatArray, IntArray, judge, paired_iou, pairs_of_key


def confusion_matrix(
    dataset: DetectionDataset, results: Results, thresholds: Sequence[float], iou_threshold: float = 0.5
) -> IntArray:
    """Count the objects of each class by the class that they were detected as.

    Detections of the right class come first: they take objects as in `rank_detections`, and fill the diagonal. Then the
    other detections, best score first, take the object of another class that they overlap most among those that are
    left. What remains of the objects was missed, what remains of the detections is on background. A detection on a
    difficult object or a crowd region that takes no other object does not count.

    Args:
        dataset: the ground truth, with C classes.
        results: the detections.
        thresholds: `(C,)` the least score of each class's detections, 0 to 1.
        iou_threshold: the least intersection over union of a detection and its object.

    Returns:
        `(C + 1, C + 1)` int64. Rows are the classes of the objects, columns those of the detections; the last row holds
        detections on background, the last column missed objects. A class's row sums to its number of objects (without
        difficult ones and crowd regions), its column to its number of detections that count.
    """
    taken = results.scores >= np.asarray(thresholds, dtype=float)[results.labels]
    shown = results.take(np.flatnonzero(taken))
    judged = judge(dataset, shown, iou_threshold)
    ignored = dataset.images.difficult | dataset.images.crowd
    truth = dataset.images.labels.astype(np.int64)
    background = len(dataset.classes)
    # The class that each object was found as, and each detection's object: -1 none yet, -2 an ignored one.
    found_as = np.full(len(truth), background)
    owner = np.where(judged.counts, -1, -2)
    right = judged.counts & judged.right
    owner[right] = judged.objects[right]
    found_as[judged.objects[right]] = truth[judged.objects[right]]
    left = np.flatnonzero(owner == -1)
    for place, target in _other_classes(dataset, shown, judged.order, left, iou_threshold):
        if owner[place] >= 0:
            continue
        if ignored[target]:
            owner[place] = -2
        elif found_as[target] == background:
            owner[place], found_as[target] = target, shown.labels[judged.order[place]]
    matrix = np.zeros((background + 1, background + 1), dtype=np.int64)
    np.add.at(matrix, (truth[~ignored], found_as[~ignored]), 1)
    np.add.at(matrix[background], shown.labels[judged.order[owner == -1]], 1)
    return matrix


def _other_classes(
    dataset: DetectionDataset, shown: Results, order: IntArray, left: IntArray, iou_threshold: float
) -> list[tuple[int, int]]:
    """Return pairs of a detection in `order` and an object of another class that it overlaps enough.

    Args:
        dataset: the ground truth.
        shown: the detections.
        order: `(K,)` their places, best score first.
        left: places in `order` of those that found no object of their class.
        iou_threshold: the least intersection over union.

    Returns:
        The pairs, best detection first, and of each detection first the object that it overlaps most.
    """
    detections = order[left]
    pair, objects = pairs_of_key(shown.image[detections], dataset.images.image_of_object)
    overlap: FloatArray = paired_iou(shown.boxes[detections][pair], dataset.images.boxes[objects])
    is_other = dataset.images.labels[objects] != shown.labels[detections][pair]
    near = np.flatnonzero(is_other & (overlap >= iou_threshold))
    near = near[np.lexsort((objects[near], -overlap[near], pair[near]))]
    return list(zip(left[pair[near]].tolist(), objects[near].tolist(), strict=True))


def most_confused(matrix: IntArray, count: int) -> list[int]:
    """Return the labels of the classes that take part in most mix-ups, in the order of the classes.

    Args:
        matrix: `(C + 1, C + 1)`, as `confusion_matrix` returns it.
        count: number of labels, at most. Of classes that are mixed up equally often, those with more missed objects
            and detections on background come first.
    """
    wrong = matrix - np.diag(np.diag(matrix))
    among = wrong[:-1, :-1].sum(axis=0) + wrong[:-1, :-1].sum(axis=1)
    with_background = wrong[:-1, -1] + wrong[-1, :-1]
    return sorted(np.lexsort((-with_background, -among))[:count].tolist())


def condensed(matrix: IntArray, labels: Sequence[int]) -> IntArray:
    """Return the confusion matrix of some classes, with all other classes together.

    Args:
        matrix: `(C + 1, C + 1)`, as `confusion_matrix` returns it.
        labels: k of the classes, each once.

    Returns:
        `(k + 2, k + 2)`: these classes in this order, all others, background. No count is lost.
    """
    group = np.full(len(matrix), len(labels))
    group[list(labels)] = np.arange(len(labels))
    group[-1] = len(labels) + 1
    result = np.zeros((len(labels) + 2, len(labels) + 2), dtype=np.int64)
    np.add.at(result, (group[:, None], group[None, :]), matrix)
    return result
