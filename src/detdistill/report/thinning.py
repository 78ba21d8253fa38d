"""Fewer points for a line of thousands: a chart is a few hundred pixels wide."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from detdistill.report.charts import Point

Points = NDArray[np.float64]


def averaged(points: Points, count: int) -> list[Point]:
    """Return the means of `count` equal shares of a line, or the line itself if it has no more points.

    Args:
        points: `(n, 2)` x and y, finite, in the order of x.
        count: at least 1.
    """
    if len(points) > count:
        ends = _ends(len(points), count)
        points = np.add.reduceat(points, ends[:-1], axis=0) / np.diff(ends)[:, None]
    return [(x, y) for x, y in points.tolist()]


def thinned(points: Points, count: int) -> list[Point]:
    """Return at most `count` points of a line, the lowest and the highest of every stretch among them.

    Args:
        points: `(n, 2)` x and y, finite, in the order of x.
        count: at least 2.
    """
    if len(points) > count:
        stretches = pairwise(_ends(len(points), count // 2).tolist())
        extremes = [
            start + place
            for start, stop in stretches
            for place in (points[start:stop, 1].argmin(), points[start:stop, 1].argmax())
        ]
        points = points[np.unique(extremes)]
    return [(x, y) for x, y in points.tolist()]


def _ends(number: int, count: int) -> NDArray[np.int64]:
    """`(count + 1,)` where stretches of a line start and end; their numbers of points differ by one at most."""
    return np.arange(count + 1) * number // count
