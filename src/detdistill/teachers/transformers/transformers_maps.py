"""Maps of an image that a network read at a size of its own, on the canvas that the image stands on.

Letters in shapes: N images of one size, D channels, C classes, P cells of all levels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, GivenBoxes, Predictions

MASKED = -20.0
"""The logit of cells that the network does not score: a probability of 2e-9."""
PRIOR_SIDE = 0.05
"""Side of the prior of a cell of the finest level, as a share of the image's side; each level doubles it."""

_MASKED_BOX = 1e4
"""No logit of a box that a network predicts is as large; those of masked cells are float32's largest number."""


@dataclass(frozen=True)
class Frame:
    """How images of one size are read: (height, width) each.

    Attributes:
        canvas: in pixels.
        image: the true size on the canvas, in pixels.
        network: the size at which the network reads that part, in its own pixels.
        padded: the size that the network reads, with what it pads; boxes are relative to this.
    """

    canvas: tuple[int, int]
    image: tuple[int, int]
    network: tuple[int, int]
    padded: tuple[int, int]

    @property
    def scale(self) -> tuple[float, float]:
        """Canvas pixels in a pixel of the network."""
        return self.image[0] / self.network[0], self.image[1] / self.network[1]

    def boxes(self, relative: Tensor) -> Tensor:
        """Boxes cx cy w h `(…, 4)` from 0 to 1, as x1 y1 x2 y2 in pixels of the canvas."""
        height, width = (side * scale for side, scale in zip(self.padded, self.scale, strict=True))
        center, half = relative[..., :2], relative[..., 2:] / 2
        sides = relative.new_tensor([width, height, width, height])
        return torch.cat((center - half, center + half), dim=-1) * sides


def canvas_strides(frame: Frame, strides: Sequence[int]) -> tuple[int, ...]:
    """Return the steps in canvas pixels at which maps are given, from those in the network's pixels.

    They depend on the canvas alone, as a grid must: `frame` is that of an image as large as the canvas. Where the two
    sizes differ, a step is the power of two next to a cell's size on the canvas: detectors of other sizes than the
    teacher's have steps of powers of two.
    """
    height, width = frame.scale
    if height == width == 1:
        return tuple(strides)
    return tuple(2 ** max(0, round(math.log2(stride * math.sqrt(height * width)))) for stride in strides)


def canvas_grid(canvas: tuple[int, int], strides: Sequence[int], device: torch.device) -> Grid:
    """Return the cells of a canvas (height, width), each with RT-DETR's prior for an image of that size."""
    anchors = []
    for level, stride in enumerate(strides):
        height, width = (PRIOR_SIDE * 2**level * side / 2 for side in canvas)
        center = stride / 2
        anchors.append(
            torch.tensor([[center - width, center - height, center + width, center + height]], device=device)
        )
    sizes = tuple((-(-canvas[0] // stride), -(-canvas[1] // stride)) for stride in strides)
    return Grid(sizes, tuple((stride, stride) for stride in strides), tuple(anchors))


def features_on(frame: Frame, grid: Grid, strides: Sequence[int], maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Return maps, L x `(N, D, H, W)` with steps in the network's pixels, bilinearly on the cells of a grid.

    A map whose cells are the grid's is not copied.
    """
    found = []
    for level, (stride, features) in enumerate(zip(strides, maps, strict=True)):
        if _is_same(frame, grid, level, stride, features):
            found.append(features)
            continue
        row, column = _cell_centers(frame, grid, level, stride, features.device)
        height, width = features.shape[-2:]
        x, y = (2 * column / width - 1), (2 * row / height - 1)
        points = torch.stack((x.expand(len(y), -1), y[:, None].expand(-1, len(x))), dim=-1)
        places = points.expand(len(features), -1, -1, -1)
        found.append(F.grid_sample(features, places, mode="bilinear", padding_mode="border", align_corners=False))
    return tuple(found)


def predictions_on(
    frame: Frame, grid: Grid, strides: Sequence[int], maps: Sequence[Tensor], logits: Tensor, boxes: Tensor
) -> Predictions:
    """Return what an encoder predicts for its cells, on the cells of a grid: each has those of the nearest cell.

    Cells that the network masks (its prior lies too near to the image's border, or is as large as the image), and
    cells beyond the image, do not exist: their logits are -20 and their boxes the priors.

    Args:
        frame: how the images are read.
        grid: of the canvas.
        strides: of the levels, in the network's pixels.
        maps: L x `(N, D, H, W)`, for their sizes.
        logits: `(N, P, C)` level by level, row by row.
        boxes: `(N, P, 4)` logits of cx cy w h, of the size of the network's input; huge where a cell is masked.
    """
    starts = [0]
    for features in maps:
        starts.append(starts[-1] + features.shape[-2] * features.shape[-1])
    chosen, inside = [], []
    for level, (stride, features) in enumerate(zip(strides, maps, strict=True)):
        row, column = _cell_centers(frame, grid, level, stride, features.device)
        height, width = features.shape[-2:]
        # The centre of a cell beyond the padded input is that of no cell: the nearest stands in, and does not count.
        rows, columns = row.floor().long().clamp(max=height - 1), column.floor().long().clamp(max=width - 1)
        chosen.append((starts[level] + rows[:, None] * width + columns).flatten())
        within = (row * stride < frame.padded[0])[:, None] & (column * stride < frame.padded[1])
        inside.append(within.flatten())
    index = torch.cat(chosen)
    logits, boxes = logits[:, index].float(), boxes[:, index].float()
    valid = torch.cat(inside) & (boxes.amax(dim=-1) < _MASKED_BOX)
    return Predictions(
        Candidates(grid, valid=valid),
        torch.where(valid[..., None], logits, MASKED),
        torch.where(valid[..., None], frame.boxes(boxes.sigmoid()), grid.priors),
        GivenBoxes(),
    )


def _is_same(frame: Frame, grid: Grid, level: int, stride: int, features: Tensor) -> bool:
    """Whether a map's cells are those of a level of a grid."""
    return (
        frame.scale == (1, 1)
        and grid.strides[level] == (stride, stride)
        and grid.sizes[level] == tuple(features.shape[-2:])
    )


def _cell_centers(frame: Frame, grid: Grid, level: int, stride: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres of a grid's rows and columns, in cells of a map; the first cell's is 0.5."""
    found = []
    for size, step, scale in zip(grid.sizes[level], grid.strides[level], frame.scale, strict=True):
        centers = (torch.arange(size, device=device, dtype=torch.float64) + 0.5) * step
        found.append((centers / (scale * stride)).float())
    return found[0], found[1]
