"""The priors of dense detectors: the boxes that every cell of the pyramid starts from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid

KEPT_GRIDS = 16


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
            anchors = tuple(level.to(device) for level in self.base_anchors)
            grid = Grid(sizes, tuple((stride, stride) for stride in self.strides), anchors)
            _ = grid.priors, grid.centers, grid.prior_strides
        return grid
