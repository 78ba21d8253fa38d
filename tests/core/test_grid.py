from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from support.grids import make_grid

LEVELS = st.lists(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 3)), min_size=1, max_size=4)
"""Height, width and anchors of a cell, per level."""


@given(LEVELS, st.integers(1, 3))
def test_flat_and_maps_are_inverse(levels: list[tuple[int, int, int]], depth: int) -> None:
    grid = make_grid([level[:2] for level in levels], [level[2] for level in levels])
    flat = torch.randn(2, grid.num_priors, depth)
    maps = grid.unflatten(flat)
    assert [tuple(level.shape) for level in maps] == [
        (2, anchors * depth, height, width) for height, width, anchors in levels
    ]
    assert torch.equal(grid.flatten(maps), flat)


@given(LEVELS)
def test_order_is_level_row_column_anchor(levels: list[tuple[int, int, int]]) -> None:
    grid = make_grid([level[:2] for level in levels], [level[2] for level in levels])
    expected = [
        (level, row, column, anchor)
        for level, (height, width, anchors) in enumerate(levels)
        for row in range(height)
        for column in range(width)
        for anchor in range(anchors)
    ]
    assert grid.num_priors == len(expected)
    level, row, column, anchor = torch.tensor(expected).unbind(dim=1)
    stride = 8 * 2**level
    corners = torch.stack((column * stride, row * stride, (column + 1) * stride, (row + 1) * stride + anchor), dim=1)
    assert torch.equal(grid.priors, corners.float())
    assert torch.equal(grid.prior_strides, stride.float())
    assert torch.equal(grid.prior_index(level, row, column) + anchor, torch.arange(len(expected)))
    maps = grid.unflatten(torch.arange(len(expected))[None, :, None])
    for number, (of_level, of_row, of_column, of_anchor) in enumerate(expected):
        assert maps[of_level][0, of_anchor, of_row, of_column] == number


def test_valid_cells_have_their_centre_inside_the_image() -> None:
    grid = make_grid([(4, 4), (2, 2)], 1)
    fine, coarse = grid.valid_cells(torch.tensor([[32, 32], [20, 13]]))
    assert fine[0].all()
    assert coarse[0].all()
    # Rows 0 and 1 have their centres at 4 and 12, row 2 at 20, which is outside of a height of 20.
    assert fine[1].nonzero().tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    assert coarse[1].nonzero().tolist() == [[0, 0]]
