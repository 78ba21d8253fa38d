"""The scores of a detector as sections of a page: by class, precision over recall, and confused classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

import numpy as np

from detdistill.core.texts import points, shortened
from detdistill.detectors.predicting import USUAL_THRESHOLD
from detdistill.evaluation.confusion import condensed, confusion_matrix, most_confused
from detdistill.evaluation.evaluating import Evaluation
from detdistill.evaluation.precision_recall import at_recalls
from detdistill.evaluation.voc_metrics import IntArray, objects_to_find
from detdistill.report.charts import Chart
from detdistill.report.html import Grid, Matrix, Part, Section, Table, Text

PERCENT = 100
NAME = 32
"""Characters of a class name that are shown."""
DRAWN_CLASSES = 4
"""Curves that can be told apart."""
SHOWN_CLASSES = 12
"""Rows of a confusion matrix that can be read."""
SHOWN_PAIRS = 10


def shown_thresholds(evaluation: Evaluation) -> list[float]:
    """Return `(C,)` score of each class from which on a detection counts: that of the best F1, else the usual one."""
    return [USUAL_THRESHOLD if point is None else point.threshold for point in evaluation.best_f1.values()]


def class_section(evaluation: Evaluation) -> Section:
    """Return the table of the classes, the weakest first."""
    totals = objects_to_find(evaluation.dataset).tolist()
    rows = []
    for (name, scores), point, total in zip(
        evaluation.scores.per_class.items(), evaluation.best_f1.values(), totals, strict=True
    ):
        best = ["–"] * 3 if point is None else [points(point.precision), points(point.recall), f"{point.threshold:.2f}"]
        row = [shortened(name, NAME), f"{total:,}", points(scores.AP), points(scores.AP50), *best]
        rows.append((2.0 if scores.AP is None else scores.AP, row))
    caption = (
        "The weakest class first. AP and AP50 are COCO's, 0 to 100. Precision and recall, in percent, at IoU 0.5 and "
        "at the score of the best F1."
    )
    columns = ("class", "objects", "AP", "AP50", "precision", "recall", "score from")
    return Section(
        "Scores by class", [Table(columns, [row for _, row in sorted(rows, key=lambda item: item[0])], caption)]
    )


def precision_recall_section(evaluation: Evaluation) -> Section:
    """Return the curve of each class; of more than four classes the mean curve and those of the weakest."""
    known = {name: curve for name, curve in evaluation.curves.items() if len(curve.recall)}
    if not known:
        return Section("Precision and recall", [Text("Nothing was found, so that there is no curve.")])
    lines: dict[str, list[tuple[float, float]]] = {}
    caption = "At IoU 0.5. A point for each score from which on detections are taken, the highest at the left."
    if len(evaluation.dataset.classes) > DRAWN_CLASSES:
        lines["mean of all classes"] = _mean_curve(evaluation)
        weakest = sorted(known, key=lambda name: evaluation.scores.per_class[name].AP50 or 0.0)
        known = {name: known[name] for name in islice(weakest, DRAWN_CLASSES - 1)}
        caption += " Beside the mean: the classes with the lowest AP50."
    for number, (name, curve) in enumerate(known.items()):
        drawn = at_recalls(curve)
        recall, precision = (PERCENT * drawn.recall).tolist(), (PERCENT * drawn.precision).tolist()
        lines[_distinct(name, number, lines)] = list(zip(recall, precision, strict=True))
    percent = (0.0, 100.0)
    chart = Chart("recall, %", "precision, %", lines, caption, x_range=percent, y_range=percent, small=True)
    return Section("Precision and recall", [Grid([chart])])


def _distinct(name: str, number: int, taken: Mapping[str, object]) -> str:
    """A short name that is not taken: long names may differ only where they are cut."""
    short = shortened(name, NAME)
    return f"{short} ({number + 1})" if short in taken else short


def _mean_curve(evaluation: Evaluation) -> list[tuple[float, float]]:
    """Recall and mean precision in percent, over the classes with objects, at the recalls 0, 0.01, … 1.

    A class has its best precision at that recall or a higher one, and 0 beyond its recall, as in COCO's AP.
    """
    levels = np.arange(101) / 100
    with_objects = objects_to_find(evaluation.dataset) > 0
    total = np.zeros(101)
    for curve, counts in zip(evaluation.curves.values(), with_objects, strict=True):
        if counts:
            falling = np.append(np.maximum.accumulate(curve.precision[::-1])[::-1], 0.0)
            total += falling[np.searchsorted(curve.recall, levels)]
    mean = PERCENT * total / np.count_nonzero(with_objects)
    return list(zip((PERCENT * levels).tolist(), mean.tolist(), strict=True))


def confusion_section(evaluation: Evaluation) -> Section:
    """Return the confusion matrix, of many classes that of those that are confused most, and the commonest mix-ups."""
    names = [shortened(name, NAME) for name in evaluation.dataset.classes]
    matrix = confusion_matrix(evaluation.dataset, evaluation.results, shown_thresholds(evaluation))
    caption = (
        "Rows: classes of the objects. Columns: what they were detected as, at IoU 0.5, with detections from each "
        f"class's score of the best F1 on ({USUAL_THRESHOLD:g} where a class has none). Background: detections where "
        "no object is, and second detections of an object. Darker: a larger share of the row."
    )
    shown_names, shown = names, matrix
    if len(names) > SHOWN_CLASSES:
        labels = most_confused(matrix, SHOWN_CLASSES)
        shown_names, shown = [*(names[label] for label in labels), "other classes"], condensed(matrix, labels)
        caption = f"The {SHOWN_CLASSES} classes that are mixed up most. {caption}"
    columns, rows = [*shown_names, "missed"], [*shown_names, "background"]
    parts: list[Part] = [Matrix("object \\ detected as", columns, rows, shown.tolist(), caption)]
    pairs = _mix_ups(matrix, names)
    if pairs:
        headings = ("object", "detected as", "times", "% of the objects")
        parts.append(Table(headings, pairs, "The commonest mix-ups of two classes."))
    return Section("Confused classes", parts)


def _mix_ups(matrix: IntArray, names: Sequence[str]) -> list[list[str]]:
    """A row for each of the commonest mix-ups: object, detection, number, and share of the class's objects."""
    among = matrix[:-1, :-1] - np.diag(np.diag(matrix)[:-1])
    totals = matrix[:-1].sum(axis=1)
    rows = []
    for place in np.argsort(-among, axis=None, kind="stable")[:SHOWN_PAIRS].tolist():
        truth, label = divmod(place, len(names))
        count = int(among[truth, label])
        if count:
            rows.append([names[truth], names[label], str(count), f"{100 * count / totals[truth]:.0f}"])
    return rows
