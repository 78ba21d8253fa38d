"""Means by group that take the same memory however much is added."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from scipy.stats import t as student_t
from torch import Tensor

CONFIDENCE = 0.95
"""Of intervals."""

Group = tuple[str, str]
"""Kind and name, such as ("size", "small")."""


@dataclass
class Tally:
    """Running means of several measures in several groups; NaN is left out.

    Attributes:
        sums: by group and measure.
        counts: values in each sum.
        members: how many were added to each group, NaN or not.
    """

    sums: dict[tuple[Group, str], float] = field(default_factory=dict)
    counts: dict[tuple[Group, str], int] = field(default_factory=dict)
    members: dict[Group, int] = field(default_factory=dict)

    def add(self, groups: Mapping[Group, Tensor], values: Mapping[str, Tensor]) -> None:
        """Adds some objects.

        Args:
            groups: `(G,)` bool by group: which of them belong to it.
            values: `(G,)` by measure.
        """
        for group, chosen in groups.items():
            self.members[group] = self.members.get(group, 0) + int(chosen.sum())
            for measure, all_values in values.items():
                own = all_values[chosen].double()
                own = own[~own.isnan()]
                key = group, measure
                self.sums[key] = self.sums.get(key, 0.0) + float(own.sum())
                self.counts[key] = self.counts.get(key, 0) + len(own)

    def mean(self, group: Group, measure: str) -> float | None:
        """The mean of a measure in a group; None without a value."""
        count = self.counts.get((group, measure), 0)
        return self.sums[group, measure] / count if count else None

    def table(self, measures: Sequence[str]) -> dict[Group, dict[str, float | None]]:
        """Means by group, with the number of `objects`; groups without members are left out."""
        return {
            group: {"objects": members, **{measure: self.mean(group, measure) for measure in measures}}
            for group, members in self.members.items()
            if members
        }


@dataclass
class Moments:
    """Running sums of two variables, for their correlation."""

    count: float = 0.0
    sums: Tensor = field(default_factory=lambda: torch.zeros(2, dtype=torch.float64))
    products: Tensor = field(default_factory=lambda: torch.zeros(2, 2, dtype=torch.float64))

    def add(self, first: Tensor, second: Tensor) -> None:
        """Adds pairs of values, both `(K,)`."""
        pairs = torch.stack((first, second)).double().cpu()
        self.count += pairs.shape[1]
        self.sums += pairs.sum(dim=1)
        self.products += pairs @ pairs.T

    @property
    def correlation(self) -> float | None:
        """Pearson's; None where a variable never changes."""
        if not self.count:
            return None
        means = self.sums / self.count
        covariance = self.products / self.count - means[:, None] * means
        spread = float(covariance[0, 0] * covariance[1, 1])
        # Below rounding of the sums of squares there is no spread to speak of.
        least = 1e-24 * float((self.products / self.count).diagonal().prod())
        return float(covariance[0, 1]) / spread**0.5 if spread > least else None


@dataclass(frozen=True)
class Estimate:
    """A mean over objects.

    Attributes:
        mean: None without an object.
        low: where its 95 % interval begins; None if the objects are in fewer than two images.
        high: where it ends.
        objects: how many the mean is of.
    """

    mean: float | None = None
    low: float | None = None
    high: float | None = None
    objects: int = 0


@dataclass
class MeanOverImages:
    """A running mean over objects, with an interval for which images, not objects, are independent draws.

    Objects of one image are often alike, so that an interval from objects alone would be too narrow. The variance of
    the mean is that of a ratio of sums over images (Cochran, Sampling Techniques, 1977, section 9A), with Student's t;
    with one object an image it is the usual s² / n.
    """

    images: int = 0
    objects: int = 0
    total: float = 0.0
    products: Tensor = field(default_factory=lambda: torch.zeros(2, 2, dtype=torch.float64))

    def add(self, values: Tensor, image: Tensor) -> None:
        """Adds objects; NaN is left out.

        Args:
            values: `(G,)`.
            image: `(G,)` int64, the image of each. No image is added twice.
        """
        known = ~values.isnan()
        values, image = values[known].double().cpu(), image[known].cpu()
        counts, sums = torch.bincount(image), torch.bincount(image, values)
        self.images += int((counts > 0).sum())
        self.objects += len(values)
        self.total += float(sums.sum())
        pairs = torch.stack((sums, counts.double()))
        self.products += pairs @ pairs.T

    def estimate(self) -> Estimate:
        """The mean and its interval."""
        if not self.objects:
            return Estimate()
        mean = self.total / self.objects
        if self.images < 2:
            return Estimate(mean, objects=self.objects)
        weights = torch.tensor([1.0, -mean], dtype=torch.float64)
        squares = max(float(weights @ self.products @ weights), 0.0)
        deviation = math.sqrt(squares * self.images / (self.images - 1)) / self.objects
        half = float(student_t.ppf((1 + CONFIDENCE) / 2, self.images - 1)) * deviation
        return Estimate(mean, mean - half, mean + half, self.objects)
