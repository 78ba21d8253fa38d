"""Fewer points for a line of thousands: a chart is a few hundred pixels wide."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from detdistill.report.charts import Point


def averaged(points: Sequence[Point], count: int) -> list[Point]:
    """Return the means of `count` equal shares of a line, or the line itself if it has no more points.

    Args:
        points: (x, y), finite, in the order of x.
        count: at least 1.
    """
    if len(points) <= count:
        return list(points)
    return [
        (sum(x for x, _ in share) / len(share), sum(y for _, y in share) / len(share))
        for share in _shares(points, count)
    ]


def thinned(points: Sequence[Point], count: int) -> list[Point]:
    """Return at most `count` points of a line, the lowest and the highest of every stretch among them.

    Args:
        points: (x, y), finite, in the order of x.
        count: at least 2.
    """
    if len(points) <= count:
        return list(points)
    kept = []
    for share in _shares(points, count // 2):
        ends = {min(range(len(share)), key=lambda i: share[i][1]), max(range(len(share)), key=lambda i: share[i][1])}
        kept += [share[place] for place in sorted(ends)]
    return kept


def _shares(points: Sequence[Point], count: int) -> Iterator[Sequence[Point]]:
    """Cut a line into `count` stretches; their numbers of points differ by one at most."""
    ends = [len(points) * number // count for number in range(count + 1)]
    return (points[start:stop] for start, stop in pairwise(ends))
