"""Precision over recall, and the score at which a detector is best used."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detdistill.evaluation.voc_metrics import FloatArray, Ranking


@dataclass(frozen=True, eq=False)
class Curve:
    """What is right and what is found, as the score threshold falls; one point for each score that occurs.

    Attributes:
        thresholds: `(S,)` falling; detections of that score and above are taken.
        precision: `(S,)` right ones among those taken, 0 to 1.
        recall: `(S,)` objects found by them, 0 to 1.
    """

    thresholds: FloatArray
    precision: FloatArray
    recall: FloatArray


@dataclass(frozen=True)
class OperatingPoint:
    """A point of the curve.

    Attributes:
        threshold: detections of this score and above are taken.
        precision: 0 to 1.
        recall: 0 to 1.
        f1: harmonic mean of the two.
    """

    threshold: float
    precision: float
    recall: float
    f1: float


def precision_recall(ranking: Ranking) -> Curve:
    """The curve of one class; empty if there is nothing to find.

    Detections of equal score are taken together: no threshold can part them.
    """
    if not ranking.total:
        return Curve(np.zeros(0), np.zeros(0), np.zeros(0))
    last_of_score = np.flatnonzero(np.diff(ranking.scores, append=-np.inf))
    hits = np.cumsum(ranking.right)[last_of_score]
    return Curve(ranking.scores[last_of_score], hits / (last_of_score + 1), hits / ranking.total)


def at_recalls(curve: Curve, points: int = 101) -> Curve:
    """The points where the curve first reaches the recalls 0, 0.01, … 1, as far as it goes: enough to draw it."""
    levels = np.arange(points) / (points - 1)
    first = np.unique(np.searchsorted(curve.recall, levels))
    first = first[first < len(curve.recall)]
    return Curve(curve.thresholds[first], curve.precision[first], curve.recall[first])


def best_f1(curve: Curve) -> OperatingPoint | None:
    """The point of the highest F1, of several the one with the highest threshold; None if no detection is right."""
    if not curve.recall.any():
        return None
    right = curve.recall > 0
    f1 = np.zeros(len(right))
    f1[right] = 2 / (1 / curve.precision[right] + 1 / curve.recall[right])
    best = int(f1.argmax())
    return OperatingPoint(*(float(values[best]) for values in (curve.thresholds, curve.precision, curve.recall, f1)))
