"""The priors of dense detectors: the boxes that every cell of the pyramid starts from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid

KEPT_GRIDS = 16
ASPECTS = ((1.0, 1.0), (1.4, 0.7), (0.7, 1.4))
"""Factors on width and height of EfficientDet's anchors (google/automl's `hparams_config.py`)."""

Steps: TypeAlias = tuple[tuple[float, float], ...]


def anchor_boxes(strides: Sequence[int], scales: Sequence[float], ratios: Sequence[float]) -> tuple[Tensor, ...]:
    """Anchors of the cell at the origin, centred on the cell's upper left corner.

    RetinaNet (arXiv 1708.02002, section 4) has scales 4·2^(k/3), k = 0, 1, 2, and ratios 0.5, 1, 2;
    ATSS (arXiv 1912.02424, section 4) has the one scale 8 and the one ratio 1.

    Args:
        strides: step of a cell in pixels, per level.
        scales: side of the square of the anchor's area, in strides.
        ratios: height over width.

    Returns:
        L x `(A, 4)` float32, in pixels; anchors run ratio by ratio, then scale by scale.

    Raises:
        DetdistillError: there is no scale or no ratio, or one is not above 0.
    """
    if not (scales and ratios and min(scales) > 0 and min(ratios) > 0):
        raise DetdistillError(
            f"anchors need at least one scale and one ratio, all above 0; given are scales {tuple(scales)} and ratios "
            f"{tuple(ratios)}"
        )
    root = torch.tensor(ratios, dtype=torch.float64).sqrt()[:, None]
    scale = torch.tensor(scales, dtype=torch.float64)
    half = torch.stack((scale / root, scale * root), dim=-1).reshape(-1, 2) / 2
    unit = torch.cat((-half, half), dim=-1)
    return tuple((stride * unit).float() for stride in strides)


def cell_boxes(strides: Sequence[int]) -> tuple[Tensor, ...]:
    """The cell at the origin itself: the prior of point detectors such as FCOS, whose point is the cell's centre.

    Args:
        strides: step of a cell in pixels, per level.

    Returns:
        L x `(1, 4)` float32, in pixels.
    """
    return tuple(torch.tensor([[0, 0, stride, stride]], dtype=torch.float32) for stride in strides)


def centered_anchors(octaves: int, scale: float) -> Tensor:
    """EfficientDet's anchors around the origin, in strides (google/automl's `anchors.py`).

    Args:
        octaves: number of sizes of an aspect ratio, 2^(k / octaves) for k = 0, 1, ….
        scale: side of the smallest square anchor, in strides.

    Returns:
        `(octaves * 3, 4)` float64; octave by octave, then the factors of `ASPECTS` in their order.

    Raises:
        DetdistillError: there is no octave, or the scale is not above 0.
    """
    if octaves < 1 or scale <= 0:
        raise DetdistillError(
            f"anchors of {octaves} octaves and scale {scale:g}: expected at least one octave, and a scale above 0"
        )
    sides = [scale * 2 ** (octave / octaves) for octave in range(octaves)]
    half = torch.tensor([(side * x / 2, side * y / 2) for side in sides for x, y in ASPECTS], dtype=torch.float64)
    return torch.cat((-half, half), dim=-1)


class PriorLayout:
    """Lays a detector's priors out over the feature maps of any batch.

    Grids are kept with their priors, per sizes and device; multi-scale training holds the `KEPT_GRIDS` used last.

    Attributes:
        strides: step of a cell in pixels, per level.
        base_anchors: L x `(A, 4)` anchors of the cell at the origin, in pixels.
    """

    def __init__(self, strides: Sequence[int], base_anchors: Sequence[Tensor]) -> None:
        if len(strides) != len(base_anchors):
            raise DetdistillError(
                f"{len(strides)} strides {tuple(strides)} but base anchors for {len(base_anchors)} levels; "
                "give base anchors for every stride"
            )
        self.strides = tuple(strides)
        self.base_anchors = tuple(base_anchors)
        self._grids: dict[tuple[tuple[tuple[int, int], ...], torch.device], Grid] = {}

    def grid(self, sizes: Sequence[tuple[int, int]], device: torch.device) -> Grid:
        """The grid of one batch.

        Args:
            sizes: (height, width) of the feature maps in cells, per level.
            device: where the priors are wanted.
        """
        if len(sizes) != len(self.strides):
            raise DetdistillError(
                f"{len(sizes)} feature maps but priors for {len(self.strides)} levels (strides {self.strides}); "
                "the pyramid and the priors need the same levels"
            )
        # While a graph is traced tensors are fake and sizes may be symbols: neither may stay.
        if torch.compiler.is_compiling():
            return self._build(tuple(sizes), device)
        key = (tuple(sizes), device)
        # The table is replaced and never changed: other threads may read it at the same time.
        kept = [entry for entry in self._grids.items() if entry[0] != key]
        grid = self._grids.get(key) or self._build(*key)
        self._grids = dict([*kept[-(KEPT_GRIDS - 1) :], (key, grid)])
        return grid

    def _build(self, sizes: tuple[tuple[int, int], ...], device: torch.device) -> Grid:
        # Tensors made in inference mode could never take part in a later training step: the priors are made here,
        # outside of it.
        with torch.inference_mode(mode=False):
            steps, anchors = self._steps_and_anchors(sizes)
            grid = Grid(sizes, steps, tuple(level.to(device) for level in anchors))
            _ = grid.priors, grid.centers, grid.prior_strides
        return grid

    def _steps_and_anchors(
        self,
        sizes: tuple[tuple[int, int], ...],  # noqa: ARG002 (subclasses' steps depend on it)
    ) -> tuple[Steps, tuple[Tensor, ...]]:
        """(vertical, horizontal) step of a cell in pixels, and anchors of the cell at the origin, per level."""
        return tuple((stride, stride) for stride in self.strides), self.base_anchors


class FittedLayout(PriorLayout):
    """Lays out anchors that are centred in their cells, whose steps are the canvas's sides over the map's.

    So have EfficientDet's authors it: on canvases that the coarsest stride does not divide, coarse cells are smaller
    than their stride, and their anchors with them. The canvas is taken to be the finest map times its stride.

    Args:
        strides: step of a cell in pixels, per level, fine to coarse.
        anchors: `(A, 4)` of a cell, around its centre, in steps.
    """

    def __init__(self, strides: Sequence[int], anchors: Tensor) -> None:
        super().__init__(strides, [_in_cell(anchors, stride, stride) for stride in strides])
        self.anchors = anchors

    def _steps_and_anchors(self, sizes: tuple[tuple[int, int], ...]) -> tuple[Steps, tuple[Tensor, ...]]:
        height, width = (side * self.strides[0] for side in sizes[0])
        steps = tuple((height / rows, width / columns) for rows, columns in sizes)
        return steps, tuple(_in_cell(self.anchors, *step) for step in steps)


def _in_cell(anchors: Tensor, step_y: float, step_x: float) -> Tensor:
    """`(A, 4)` float32, in pixels: anchors in the cell at the origin, from those around a centre, in steps."""
    left, top, right, bottom = (anchors + 0.5).unbind(dim=-1)
    return torch.stack((left * step_x, top * step_y, right * step_x, bottom * step_y), dim=-1).float()
