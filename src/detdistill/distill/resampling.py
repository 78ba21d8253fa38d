"""Maps and predictions of one detector on the cells of another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Features, Output, Predictions
from detdistill.core.precision import at_least_float32


@dataclass(frozen=True, eq=False, kw_only=True)
class ChosenPredictions(Predictions):
    """Predictions whose candidates each stand for a prior of others. Scores are class times quality.

    Attributes:
        origin: those others.
        chosen: `(N, P)` its priors.
    """

    origin: Predictions
    chosen: Tensor

    def boxes(self, index: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Boxes of the priors that the candidates stand for; as `Predictions.boxes`."""
        if index is not None:
            return self.origin.boxes((index[0], self.chosen[index]))
        return self.origin.boxes().gather(1, self.chosen[..., None].expand(-1, -1, 4))

    def priors(self, index: tuple[Tensor, Tensor]) -> Tensor:
        """Those that the candidates stand for; as `Predictions.priors`."""
        return self.origin.grid.priors[self.chosen[index]]

    @property
    def anchors(self) -> Grid:
        """The candidates' cells with all anchors of the others' cells."""
        return replace(self.grid, base_anchors=self.origin.grid.base_anchors)


def features_on(teacher: Output, levels: Sequence[int], grid: Grid, *, by_place: bool) -> Features:
    """Some of the teacher's maps, resampled to the cells of a grid."""
    features = teacher.features
    chosen = Features(
        tuple(features.maps[level] for level in levels), tuple(features.strides[level] for level in levels)
    )
    return Features(tuple(resized(chosen, grid, by_place=by_place)), grid.strides)


def resampled(output: Output, cells: Grid, *, by_cell: bool, by_place: bool = False) -> Output:
    """An output on the `cells` of the same levels, with one candidate per cell if `by_cell`.

    With `by_place`, each cell gets what is predicted at its place in pixels; otherwise both cover the same canvas.
    """
    predictions = output.predictions
    grid = predictions.grid
    scores = at_least_float32(predictions.class_logits)
    batch = len(scores)
    parts = []
    for candidates in _nearest(grid, cells, by_place=by_place):
        if by_cell:
            anchors = scores[:, candidates].detach().amax(dim=-1).argmax(dim=-1)  # (N, cells)
            best = candidates.expand(batch, -1, -1).gather(2, anchors[..., None]).squeeze(2)
            parts.append((best, scores[:, candidates].amax(dim=2)))
        else:
            parts.append((candidates.flatten().expand(batch, -1), scores[:, candidates.flatten()]))
    chosen, class_logits = (torch.cat(levels, dim=1) for levels in zip(*parts, strict=True))
    base_anchors = tuple(anchors[:1] for anchors in grid.base_anchors) if by_cell else grid.base_anchors
    image = torch.arange(batch, device=scores.device)[:, None]
    quality, exists = predictions.quality_logits, predictions.candidates.valid
    predicted = ChosenPredictions(
        Candidates(
            Grid(cells.sizes, grid.strides, base_anchors), valid=None if exists is None else exists[image, chosen]
        ),
        class_logits,
        predictions.regression[image, chosen],
        predictions.coder,
        None if quality is None else quality[image, chosen],
        origin=predictions,
        chosen=chosen,
    )
    maps = output.features.maps and resized(output.features, cells, by_place=by_place)
    return Output.dense(maps, predicted, output.towers)


def _nearest(grid: Grid, cells: Grid, *, by_place: bool) -> list[Tensor]:
    """L x `(cells, A)` for every cell of another grid, the priors of the nearest cell of the same level."""
    device = grid.device
    levels = []
    for level, (height, width) in enumerate(grid.sizes):
        row, column = (
            centers.long().clamp(max=side - 1)
            for centers, side in zip(_centers(grid, cells, level, by_place=by_place), (height, width), strict=True)
        )
        index = grid.prior_index(torch.tensor(level, device=device), row[:, None], column[None, :])
        levels.append(index.flatten()[:, None] + torch.arange(grid.anchors_per_cell[level], device=device))
    return levels


def resized(features: Features, cells: Grid, *, by_place: bool) -> list[Tensor]:
    """Maps on the cells of a grid of as many levels, bilinearly."""
    found = []
    for level, (own, size) in enumerate(zip(features.maps, cells.sizes, strict=True)):
        height, width = own.shape[-2:]
        if by_place and features.strides[level] == cells.strides[level] and height >= size[0] and width >= size[1]:
            found.append(own[..., : size[0], : size[1]])
        elif by_place:
            row, column = _centers(features, cells, level, by_place=True)
            # Clamped here, for not every device can pad with the border.
            x, y = 2 * column.clamp(0.5, width - 0.5) / width - 1, 2 * row.clamp(0.5, height - 0.5) / height - 1
            points = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)
            places = points.expand(len(own), -1, -1, -1)
            values = at_least_float32(own)
            found.append(F.grid_sample(values, places.to(values.dtype), align_corners=False))
        elif (height, width) == size:
            found.append(own)
        else:
            found.append(F.interpolate(own, size=size, mode="bilinear", align_corners=False))
    return found


def _centers(own: Grid | Features, cells: Grid, level: int, *, by_place: bool) -> list[Tensor]:
    """Centres of a grid's rows and columns, in cells of a level of maps; the first cell's is 0.5."""
    sides = own.sizes[level] if isinstance(own, Grid) else own.maps[level].shape[-2:]
    found = []
    for axis, count in enumerate(cells.sizes[level]):
        centers = torch.arange(count, device=cells.device) + 0.5
        step, own_step = cells.strides[level][axis], own.strides[level][axis]
        found.append(centers * (step / own_step) if by_place else centers * sides[axis] / count)
    return found
