"""What a few seeds say of a mean, and of a difference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from scipy.stats import t as student_t

from detdistill.evaluation.gap import share_closed

CONFIDENCE = 0.95
Verdict = Literal["holds", "undecided", "fails"]


@dataclass(frozen=True)
class Estimate:
    """A mean with the interval that Student's t distribution gives it.

    Attributes:
        mean: of the values.
        low: lower end of the 95 % interval; None for a single value.
        high: upper end; None for a single value.
        count: number of values.
    """

    mean: float
    low: float | None
    high: float | None
    count: int

    @property
    def verdict(self) -> Verdict:
        """Of the claim that the true mean is above 0: whether the interval lies above, below, or around it."""
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return "undecided"
        return "holds" if self.low > 0 else "fails"


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of some values and its interval; None where there is no value."""
    if not values:
        return None
    mean = fmean(values)
    if len(values) == 1:
        return Estimate(mean, None, None, 1)
    half = float(student_t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return Estimate(mean, mean - half, mean + half, len(values))


def paired_difference(values: Mapping[int, float], reference: Mapping[int, float]) -> Estimate | None:
    """Of two methods, by the seeds that both have; what a seed does to both alike is not in it.

    Args:
        values: score by seed.
        reference: score by seed of what it is compared with.

    Returns:
        `values - reference`; None without a common seed.
    """
    return estimate([values[seed] - reference[seed] for seed in values if seed in reference])


def signed_points(value: Estimate | None) -> str:
    """A difference of scores in points, with the ends of its interval where there is one: `+1.2 [+0.8, +1.6]`."""
    if value is None:
        return "–"
    if value.low is None or value.high is None:
        return f"{100 * value.mean:+.1f}"
    return f"{100 * value.mean:+.1f} [{100 * value.low:+.1f}, {100 * value.high:+.1f}]"


def gap_closed(values: Mapping[int, float], baseline: Mapping[int, float], teacher: float | None) -> float | None:
    """The share of the way from the baseline to the teacher, by the seeds that both have; 1 is all of it.

    None without a common seed, and where the gap is too narrow for shares.
    """
    common = [seed for seed in values if seed in baseline]
    if teacher is None or not common:
        return None
    start, mean = (fmean(scores[seed] for seed in common) for scores in (baseline, values))
    return share_closed(mean, start=start, teacher=teacher)
