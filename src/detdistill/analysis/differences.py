"""Observation 2 (Li et al., AAAI 2022): features differ elsewhere than predictions do.

In each cell of a level, P is the mean squared difference of class probabilities over classes and anchors, and F that
of features, in units of the teacher's spread. A student's features may have other channels and any scale: they are
first brought to the teacher's by the linear map, of least squares, that an adapter would be. So F is the share of the
teacher's features that a 1x1 convolution of the student's cannot tell, and students with and without adapters compare.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from detdistill.analysis.tally import Moments
from detdistill.core.output import Output
from detdistill.core.precision import at_least_float32
from detdistill.losses.imitation import squared_difference

AGREED = 0.05
"""Probability: where no class of no anchor differs by more, the two predict the same."""
RIDGE = 1e-4
"""Added to the normal equations, relative to their mean diagonal: channels may be constant."""


@dataclass
class LinearFit:
    """The least-squares linear map from one level's student features to the teacher's, from sums over cells.

    Args:
        own: Q of the student.
        other: Q of the teacher.
    """

    own: int
    other: int
    squares: Tensor = field(init=False)
    products: Tensor = field(init=False)
    target_squares: Tensor = field(init=False)

    def __post_init__(self) -> None:
        """Begins with nothing."""
        self.squares = torch.zeros(self.own + 1, self.own + 1, dtype=torch.float64)
        self.products = torch.zeros(self.own + 1, self.other, dtype=torch.float64)
        self.target_squares = torch.zeros(self.other, dtype=torch.float64)

    def add(self, student: Tensor, teacher: Tensor, valid: Tensor) -> None:
        """Adds the valid cells `(N, H, W)` of maps `(N, Q, H, W)`."""
        inputs, targets = (level.permute(0, 2, 3, 1)[valid].double().cpu() for level in (student, teacher))
        inputs = torch.cat((inputs, inputs.new_ones(len(inputs), 1)), dim=1)
        self.squares += inputs.T @ inputs
        self.products += inputs.T @ targets
        self.target_squares += targets.square().sum(dim=0)

    def solve(self) -> LinearMap:
        """The map, with the teacher's spread; it maps to 0 and a spread of 1 where nothing was added."""
        count = float(self.squares[-1, -1])
        scale = float(self.squares.diagonal()[:-1].mean()) if count else 1.0
        ridge = torch.eye(self.own + 1, dtype=torch.float64) * max(RIDGE * scale, 1e-12)
        ridge[-1, -1] = 1e-12
        weights = torch.linalg.solve(self.squares + ridge, self.products)
        means = self.products[-1] / max(count, 1.0)
        spread = float((self.target_squares / max(count, 1.0) - means.square()).mean())
        return LinearMap(weights.float(), spread if spread > 0 else 1.0)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """From the student's features to the teacher's.

    Attributes:
        weights: `(Q_student + 1, Q_teacher)`, the last row is the offset.
        spread: variance of the teacher's features, the mean over channels.
    """

    weights: Tensor
    spread: float

    def difference(self, student: Tensor, teacher: Tensor) -> Tensor:
        """F `(N, H, W)` of maps `(N, Q, H, W)`, in units of the teacher's variance."""
        weights = self.weights.to(student.device)
        mapped = torch.einsum("nqhw,qd->ndhw", at_least_float32(student), weights[:-1]) + weights[-1][:, None, None]
        return squared_difference(mapped, teacher) / self.spread


def prediction_maps(student: Output, teacher: Output) -> list[tuple[Tensor, Tensor]]:
    """P, and the largest difference of a class probability, of each level: L x two `(N, H, W)`."""
    own, other = (
        output.predictions.grid.unflatten(at_least_float32(output.predictions.class_logits).sigmoid())
        for output in (student, teacher)
    )
    return [
        (squared_difference(first, second), (first - second).abs().amax(dim=1))
        for first, second in zip(own, other, strict=True)
    ]


@dataclass
class LevelDifference:
    """What a level's cells say together.

    Attributes:
        moments: of F and P.
        cells: valid ones.
        agreed: cells where the two predict the same.
        features: sum of F.
        features_agreed: sum of F where the two predict the same.
        predictions: sum of P.
    """

    moments: Moments = field(default_factory=Moments)
    cells: int = 0
    agreed: int = 0
    features: float = 0.0
    features_agreed: float = 0.0
    predictions: float = 0.0

    def add(self, features: Tensor, predictions: Tensor, largest: Tensor, valid: Tensor) -> None:
        """Adds the valid cells of maps F, P and the largest difference, all `(N, H, W)`."""
        own, guide = features[valid], predictions[valid]
        same = largest[valid] <= AGREED
        self.moments.add(own, guide)
        self.cells += len(own)
        self.agreed += int(same.sum())
        self.features += float(own.double().sum())
        self.features_agreed += float(own[same].double().sum())
        self.predictions += float(guide.double().sum())

    def summary(self) -> dict[str, float | None]:
        """Means and shares, None where they are undefined."""
        return {
            "cells": self.cells,
            "feature_difference": self.features / self.cells if self.cells else None,
            "prediction_difference": self.predictions / self.cells if self.cells else None,
            "correlation": self.moments.correlation,
            "cells_agreed": self.agreed / self.cells if self.cells else None,
            "feature_difference_agreed": self.features_agreed / self.features if self.features else None,
        }


def fits_of(student: Sequence[Tensor], teacher: Sequence[Tensor]) -> list[LinearFit]:
    """An empty fit for each level."""
    return [LinearFit(own.shape[1], other.shape[1]) for own, other in zip(student, teacher, strict=True)]
