"""What a detector predicts for a batch: feature maps, candidates, and a score and a box for each candidate.

Boxes are x1 y1 x2 y2 in pixels of the batch canvas. Letters in shapes: N images, L pyramid levels, Q feature channels,
P candidates, C classes, R numbers of a raw box, K chosen candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.precision import at_least_float32

Activation = Literal["sigmoid", "softmax"]
"""How logits become class probabilities: each class by itself, or all together with background as the last column."""


class BoxCoder(Protocol):
    """How a head writes boxes as numbers."""

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:
        """Boxes from raw regression.

        Args:
            priors: `(…, 4)` in pixels.
            strides: `(…,)` in pixels.
            regression: `(…, R)`; the leading dimensions broadcast with the priors'.

        Returns:
            `(…, 4)` boxes in pixels, not clipped.
        """


class GivenBoxes:
    """The coder of boxes that are known as such."""

    def decode(self, priors: Tensor, strides: Tensor, regression: Tensor) -> Tensor:  # noqa: ARG002
        """Return `regression`, which is `(…, 4)` boxes in pixels."""
        return regression


def joint_logit(first: Tensor, second: Tensor) -> Tensor:
    """The logit of a product of two probabilities, from their logits: logit(σ(a)·σ(b)) = −log(e⁻ᵃ(1 + e⁻ᵇ) + e⁻ᵇ)."""
    return -torch.logaddexp(F.softplus(-second) - first, -second)


@dataclass(frozen=True, eq=False)
class Features:
    """The feature maps of a batch.

    Attributes:
        maps: L x `(N, Q, H, W)`.
        strides: (vertical, horizontal) step of a cell in pixels, per level.
    """

    maps: tuple[Tensor, ...]
    strides: tuple[tuple[float, float], ...]


@dataclass(frozen=True, eq=False)
class Candidates:
    """The boxes that a stage scores: the priors of a grid, the same in all images, or each image's own.

    Attributes:
        grid: cells and priors; None where each image has its own boxes.
        own: `(N, P, 4)` each image's own boxes, in pixels; None where there is a grid.
        valid: `(N, P)` bool, which candidates exist where images have different numbers of them; None for all.
    """

    grid: Grid | None = None
    own: Tensor | None = None
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        """Raises `ValueError` unless there is exactly one source of boxes."""
        if (self.grid is None) == (self.own is None):
            raise ValueError("candidates are the priors of a grid or each image's own boxes: give one of the two")

    @property
    def count(self) -> int:
        """P."""
        if self.own is not None:
            return self.own.shape[1]
        assert self.grid is not None
        return self.grid.num_priors

    @property
    def boxes(self) -> Tensor:
        """`(P, 4)` of a grid, or `(N, P, 4)`, in pixels."""
        if self.own is not None:
            return self.own
        assert self.grid is not None
        return self.grid.priors

    @property
    def strides(self) -> Tensor:
        """`(P,)` the unit in which distances from a candidate are regressed: its level's stride, 1 without a grid."""
        return self.boxes.new_ones(self.count) if self.grid is None else self.grid.prior_strides

    def at(self, index: tuple[Tensor, Tensor]) -> Tensor:
        """`(K, 4)` boxes by image and candidate, each `(K,)`."""
        return self.boxes[index[1]] if self.own is None else self.own[index]


@dataclass(frozen=True, eq=False)
class Predictions:
    """What one stage predicts for its candidates. Heads that predict more subclass it.

    Attributes:
        candidates: what is scored.
        logits: `(N, P, C)` for sigmoid; `(N, P, C + 1)`, background last, for softmax. Where a head forms a joint
            probability (GFLv2), the logits of that product.
        regression: `(N, P, R)` raw: deltas (4), distances (4) or distributions (4 x bins).
        coder: turns `regression` into boxes.
        quality_logits: `(N, P)` centerness or objectness that multiplies the class score, or None.
        activation: how logits become class probabilities.
        any_class: the only class stands for an object of any class, as in a region proposal network.
    """

    candidates: Candidates
    logits: Tensor
    regression: Tensor
    coder: BoxCoder
    quality_logits: Tensor | None = None
    activation: Activation = "sigmoid"
    any_class: bool = False

    @property
    def grid(self) -> Grid:
        """The candidates' grid.

        Raises:
            ValueError: each image has its own candidates.
        """
        if self.candidates.grid is None:
            raise ValueError("these candidates have no grid: each image has its own boxes")
        return self.candidates.grid

    @property
    def num_classes(self) -> int:
        """C."""
        return self.logits.shape[2] - (self.activation == "softmax")

    @property
    def class_logits(self) -> Tensor:
        """`(N, P, C)` the log-odds of each class, without quality; for sigmoid, the raw logits."""
        if self.activation == "sigmoid":
            return self.logits
        return _log_odds_of_softmax(at_least_float32(self.logits))[..., :-1]

    def scores(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """What the detector ranks its candidates by, 0 to 1: class probability, times quality where it has one.

        Args:
            index: image, candidate and class of the K candidates asked for, each `(K,)`; None for all.

        Returns:
            `(K,)`, or `(N, P, C)` for all; 0 for candidates that do not exist.
        """
        if self.activation == "softmax":
            rows = self.logits if index is None else self.logits[index[:2]]
            probabilities = at_least_float32(rows).softmax(dim=-1)
            scores = probabilities[..., :-1] if index is None else _column(probabilities, index[2])
        else:
            scores = at_least_float32(self.logits if index is None else self.logits[index]).sigmoid()
        if self.quality_logits is not None:
            scores = scores * at_least_float32(_rows(self.quality_logits, index)).sigmoid()
        return scores if self.candidates.valid is None else scores * _rows(self.candidates.valid, index)

    def log_odds(self, index: tuple[Tensor, Tensor, Tensor] | None = None) -> Tensor:
        """The logits of `scores(index)`, in the same shape; very low for candidates that do not exist."""
        if self.activation == "softmax":
            rows = _log_odds_of_softmax(at_least_float32(self.logits if index is None else self.logits[index[:2]]))
            logits = rows[..., :-1] if index is None else _column(rows, index[2])
        else:
            logits = at_least_float32(self.logits if index is None else self.logits[index])
        if self.quality_logits is not None:
            logits = joint_logit(logits, at_least_float32(_rows(self.quality_logits, index)))
        if self.candidates.valid is None:
            return logits
        return logits.masked_fill(~_rows(self.candidates.valid, index), torch.finfo(logits.dtype).min)

    def boxes(self, index: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Decoded boxes in pixels, float32, not clipped to the image.

        Args:
            index: image and candidate of the K candidates asked for, each `(K,)`; None for all.

        Returns:
            `(K, 4)`, or `(N, P, 4)` for all.
        """
        candidates = self.candidates
        if index is None:
            return self.coder.decode(candidates.boxes, candidates.strides, at_least_float32(self.regression))
        strides = candidates.strides[index[1]]
        return self.coder.decode(candidates.at(index), strides, at_least_float32(self.regression[index]))

    def class_boxes(self, index: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """`(K, 4)` boxes of a class, by image, candidate and class; those of the candidate where it has only one."""
        return self.boxes(index[:2])

    def with_class_logits(self, logits: Tensor) -> Self:
        """The same boxes with other classes, each by itself: `(N, P, C)` logits for sigmoid."""
        return replace(self, logits=logits, activation="sigmoid")

    def priors(self, index: tuple[Tensor, Tensor]) -> Tensor:
        """`(K, 4)` the candidates that `boxes(index)` are decoded from, in pixels."""
        return self.candidates.at(index)

    @property
    def anchors(self) -> Grid:
        """The same cells with every anchor that the detector has there; `grid` has the candidates' alone."""
        return self.grid


@dataclass(frozen=True, eq=False)
class TowerMaps:
    """What the two towers of a head hold somewhere on the way, before an activation; kept when a method needs it.

    Attributes:
        class_maps: of the class tower, L x `(N, Q, H, W)`.
        box_maps: of the box tower, the same.
        predictions: what the head made of them, with its own candidates and classes.
    """

    class_maps: tuple[Tensor, ...]
    box_maps: tuple[Tensor, ...]
    predictions: Predictions


class TowerHead(Protocol):
    """A head with two convolutional towers that can be run from the middle of them."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Of the pyramid's levels, in pixels."""

    def __call__(self, features: tuple[Tensor, ...]) -> Output:
        """Pyramid maps, L x `(N, Q, H, W)`, to an output."""

    def keep_towers(self, depth: int) -> None:
        """From now on outputs have `towers`: what the two hold after `depth` convolutions."""

    def complete(self, class_maps: Sequence[Tensor], box_maps: Sequence[Tensor]) -> Predictions:
        """Predictions from what the towers hold after that many convolutions, L x `(N, Q, H, W)` each."""


class RegionReader(Protocol):
    """A second stage that can be run on any boxes."""

    @property
    def stage_names(self) -> tuple[str, ...]:
        """Names of the stages of region heads."""

    def keep_positives(self) -> None:
        """From now on the stages score all positive proposals in training, not only those that are sampled."""

    def read_proposals(self, stage: int, maps: Sequence[Tensor], boxes: Tensor, valid: Tensor) -> Predictions:
        """What a stage predicts for boxes `(N, P, 4)` in pixels, of which `valid` `(N, P)` exist.

        Args:
            stage: number of the stage.
            maps: the pyramid, L x `(N, Q, H, W)`.
            boxes: in pixels.
            valid: bool.
        """


@dataclass(frozen=True, eq=False)
class Output:
    """What a detector's forward returns, in training and in inference, or as much of it as a teacher offers.

    Attributes:
        features: the maps that the stages read; none of a teacher that offers no features.
        stages: predictions by name, in order; `dense` is the only stage of a dense detector; none of a teacher that
            offers features without predictions at their cells.
        final: the name of the stage that detections come from.
        towers: what the head's towers held, or None if no method needs it.
    """

    features: Features
    stages: Mapping[str, Predictions]
    final: str
    towers: TowerMaps | None = None

    @classmethod
    def dense(cls, maps: Sequence[Tensor], predictions: Predictions, towers: TowerMaps | None = None) -> Self:
        """The output of a dense detector: one stage on the grid of the maps, L x `(N, Q, H, W)`, if it gives maps."""
        strides = predictions.grid.strides if maps else ()
        return cls(Features(tuple(maps), strides), {DENSE: predictions}, DENSE, towers)

    @property
    def predictions(self) -> Predictions:
        """Those of the final stage."""
        return self.stages[self.final]

    @property
    def on_grid(self) -> Self | None:
        """The same output with the stage on the cells of the maps as the final one; None if no stage is there."""
        names = [name for name, stage in self.stages.items() if stage.candidates.grid is not None]
        if self.final in names:
            return self
        return replace(self, final=names[0]) if names else None

    def with_predictions(self, predictions: Predictions) -> Self:
        """The same output with another final stage."""
        return replace(self, stages={**self.stages, self.final: predictions})


DENSE = "dense"
"""The name of a dense detector's only stage."""

Part = TypeVar("Part", bound=Output | Predictions | Candidates | Features | TowerMaps)


def combined(parts: Sequence[Part], combine: Callable[[list[Tensor]], Tensor]) -> Part:
    """One output made of others that have the same grid, of whatever subclass.

    Args:
        parts: at least one; the result is the first, but for its tensors.
        combine: makes one tensor `(N, …)` of the outputs' tensors of the same meaning.
    """

    def joined(values: list[Any]) -> Any:
        match values[0]:
            case Tensor():
                return combine(values)
            case Output() | Predictions() | Candidates() | Features() | TowerMaps():
                return combined(values, combine)
            case tuple() if values[0] and isinstance(values[0][0], Tensor):
                return tuple(combine(list(maps)) for maps in zip(*values, strict=True))
            case Mapping():
                return {name: joined([value[name] for value in values]) for name in values[0]}
            case other:
                return other

    changes = {each.name: joined([getattr(part, each.name) for part in parts]) for each in fields(parts[0])}
    return replace(parts[0], **changes)


def _rows(values: Tensor, index: tuple[Tensor, Tensor, Tensor] | None) -> Tensor:
    """`(K,)` of values `(N, P)` by index, or all of them `(N, P, 1)`."""
    return values[..., None] if index is None else values[index[:2]]


def _column(rows: Tensor, column: Tensor) -> Tensor:
    """`(K,)` one value of each row `(K, D)`."""
    return rows.gather(1, column[:, None]).squeeze(1)


def _log_odds_of_softmax(logits: Tensor) -> Tensor:
    """`(…, D)` log p − log(1 − p) of each column of a softmax over `(…, D)` logits.

    log(1 − p) is lost where p is nearly 1. Only the largest logit can be there: the others' sum is taken for it.
    """
    best = logits.argmax(dim=-1, keepdim=True)
    rest = logits.scatter(-1, best, -torch.inf).logsumexp(dim=-1, keepdim=True)
    total = logits.logsumexp(dim=-1, keepdim=True)
    share = (logits - total).scatter(-1, best, -1.0).exp()
    others = (total + torch.log1p(-share)).scatter(-1, best, rest)
    return logits - others
