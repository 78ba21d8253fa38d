from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.detectors.priors import cell_boxes
from detdistill.distill.masks import object_cells, positive_cells
from detdistill.grid import Grid
from detdistill.structures import BACKGROUND, IGNORED, Assignment, Targets

STRIDES = (8, 16)
SIZES = ((4, 6), (2, 3))


def grid(anchors: int) -> Grid:
    return Grid(SIZES, tuple((stride, stride) for stride in STRIDES), cell_boxes(STRIDES).repeat(1, anchors, 1))


def test_a_cell_is_positive_if_one_of_its_anchors_is() -> None:
    layout = grid(anchors=2)
    matched = torch.full((2, layout.num_priors), BACKGROUND)
    matched[1, 2 * (6 + 3) + 1] = 5  # level 0, row 1, column 3
    matched[0, 2 * (24 + 4)] = 0  # level 1, row 1, column 1
    matched[0, 3] = IGNORED
    fine, coarse = positive_cells(layout, Assignment(matched))
    assert fine.nonzero().tolist() == [[1, 1, 3]]
    assert coarse.nonzero().tolist() == [[0, 1, 1]]


@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.integers(0, 40), st.integers(0, 28), st.integers(1, 30), st.integers(1, 30)),
        max_size=4,
    )
)
def test_cells_of_objects_are_those_whose_centre_is_in_a_box(objects: list[tuple[int, int, int, int, int]]) -> None:
    objects = sorted(objects)
    boxes = torch.tensor([(x, y, x + w, y + h) for _, x, y, w, h in objects], dtype=torch.float32).reshape(-1, 4)
    image = torch.tensor([each[0] for each in objects], dtype=torch.int64)
    targets = Targets(boxes, torch.zeros_like(image), image, torch.tensor([[32, 48], [32, 48]]))
    layout = grid(anchors=1)
    for found, (rows, columns), stride in zip(object_cells(layout, targets), SIZES, STRIDES, strict=True):
        assert found.shape == (2, rows, columns)
        for n in range(2):
            for i in range(rows):
                for j in range(columns):
                    x, y = (j + 0.5) * stride, (i + 0.5) * stride
                    inside = any(n == own and a <= x < a + w and b <= y < b + h for own, a, b, w, h in objects)
                    assert found[n, i, j] == inside
