"""Which source of ranking fits a student, in words and as numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from detdistill.analysis.groups import ALL
from detdistill.analysis.sources import LEAST_OBJECTS, ORDER_MEASURES, ORDERS, RankSources
from detdistill.analysis.tally import Estimate


def source_numbers(sources: RankSources) -> dict[str, Any]:
    """Return everything about the sources of ranking as machines read it, None where undefined."""
    return {
        "fits": sources.fit,
        "tau_with_iou": {order: asdict(sources.taus[order].estimate()) for order in ORDERS},
        "opinion_less_grid": asdict(sources.difference.estimate()),
        "groups": [
            {"kind": kind, "group": name, **values}
            for (kind, name), values in sources.groups.table(ORDER_MEASURES).items()
        ],
    }


def fit_sentence(sources: RankSources, *, explain: bool) -> str:
    """Return the sentence that says which source of ranking fits the pair, and why.

    Args:
        sources: the orders.
        explain: what tau is.
    """
    grid, opinion, difference = (
        each.estimate() for each in (sources.taus["grid"], sources.taus["opinion"], sources.difference)
    )
    note = "; tau is the rank correlation with the true IoU of the student's boxes" if explain else ""
    match sources.fit:
        case "unknown":
            counted = difference if sources.has_grid else opinion
            return (
                f"{counted.objects} objects with an order are too few to say which source of ranking fits this pair; "
                f"at least {LEAST_OBJECTS} in two or more images are needed."
            )
        case "neither" if sources.has_grid:
            return (
                "No source of ranking fits this pair: neither the teacher's own scores (tau "
                f"{with_interval(grid)}) nor its boxes (tau {with_interval(opinion)}) order the student's candidates "
                f"better than chance{note}."
            )
        case "neither":
            return (
                "No source of ranking fits this pair: the teacher's boxes do not order the student's candidates better "
                f"than chance (tau {with_interval(opinion)}), and it has no scores on the student's cells{note}."
            )
        case "either":
            return (
                "The two sources of ranking do not differ noticeably for this pair: the teacher's own scores order the "
                f"student's candidates with tau {signed(grid.mean)}, its boxes with {signed(opinion.mean)} (difference "
                f"{with_interval(difference)}){note}."
            )
        case "grid":
            return (
                "Rank by the teacher's own scores (rank_mimicking: {source: grid}): they order the student's "
                f"candidates with tau {signed(grid.mean)}, its boxes with {signed(opinion.mean)} (difference "
                f"{with_interval(difference)}){note}."
            )
        case "opinion" if sources.has_grid:
            return (
                "Rank by opinion (rank_mimicking: {source: opinion}): the teacher's boxes order the student's "
                f"candidates with tau {signed(opinion.mean)}, its own scores with {signed(grid.mean)} (difference "
                f"{with_interval(difference)}){note}."
            )
        case "opinion":
            return (
                "Rank by opinion (rank_mimicking: {source: opinion}): the teacher's boxes order the student's "
                f"candidates with tau {with_interval(opinion)}, and it has no scores on the student's cells{note}."
            )


def source_sentences(sources: RankSources, *, explain: bool) -> Iterator[str]:
    """Yield what else the orders of the candidates are like, a sentence each."""
    own, without = sources.taus["student"].estimate(), sources.groups.mean(ALL, "without_opinion")
    if own.mean is not None:
        note = " (1: the best box first, 0: chance, -1: the worst first)" if explain else ""
        yield (
            "The student's own order of its candidates agrees with the true IoU of their boxes with tau "
            f"{with_interval(own)}{note}."
        )
    if without is not None:
        note = ": it predicts no box of their class that overlaps one of their candidates" if explain else ""
        yield f"The teacher has no opinion of {100 * without:.0f} % of the objects{note}."


def signed(value: float | None) -> str:
    """A correlation, -1 to 1, with its sign and two decimals."""
    return "–" if value is None else f"{round(value, 2) + 0.0:+.2f}"


def interval(estimate: Estimate) -> str:
    """The 95 % interval of a mean correlation."""
    return "–" if estimate.low is None else f"{signed(estimate.low)} to {signed(estimate.high)}"


def with_interval(estimate: Estimate) -> str:
    """A mean correlation and its interval."""
    if estimate.low is None:
        return signed(estimate.mean)
    return f"{signed(estimate.mean)}, 95 % interval {interval(estimate)}"
