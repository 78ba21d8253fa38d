from __future__ import annotations

from fractions import Fraction

import pytest
import torch
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.output import DENSE, Candidates, Output, Predictions
from detdistill.core.structures import Assignment, Targets
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.dense.priors import cell_boxes
from detdistill.distill.class_map import identical_classes
from detdistill.distill.grid_correspondence import grid_correspondence
from detdistill.distill.scaled_guidance import ImageScales, scaled_guidance
from detdistill.distill.view import View
from detdistill.teachers.teacher import Guidance


def output(stride: int, cells: int, maps: Tensor | None = None) -> Output:
    """One level of square maps; scores are the numbers of the cells, boxes their centres."""
    grid = Grid(((cells, cells),), ((stride, stride),), tuple(cell_boxes([stride])))
    numbers = torch.arange(cells * cells, dtype=torch.float32)
    predictions = Predictions(
        Candidates(grid), numbers[None, :, None], torch.zeros(1, cells * cells, 4), DistanceCoder("stride")
    )
    return Output.dense([torch.zeros(1, 1, cells, cells) if maps is None else maps], predictions)


def places(stride: float, cells: int) -> Tensor:
    """`(1, 2, cells, cells)` the x and y of the cells' centres."""
    centers = (torch.arange(cells) + 0.5) * stride
    return torch.stack(torch.meshgrid(centers, centers, indexing="xy"))[None]


def view(student: Output, teacher: Output, ratio: Fraction, side: int, teacher_side: int) -> View:
    """Of a student on a canvas of `side` pixels."""
    size = torch.full((1, 2), side)
    extent = float(teacher_side / (ratio * side))
    scales = ImageScales.of(size, torch.full((1, 2), round(side * ratio)))
    guidance = scaled_guidance(Guidance(teacher), scales, ratio, (extent, extent))
    way = grid_correspondence(
        student.predictions.grid.strides, guidance.dense.predictions.grid.strides, identical_classes(("cat",))
    )
    matched = Assignment(torch.full((1, student.predictions.grid.num_priors), -1))
    nothing = Targets.from_images([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], size)
    return way(student, guidance, {DENSE: matched}, nothing)


@pytest.mark.parametrize(
    ("ratio", "first"),
    [(Fraction(9, 8), 4.0), (Fraction(6, 5), 4.0), (Fraction(9, 10), 40 / 9)],  # the first centre, if later than 4
)
def test_a_map_of_a_larger_canvas_is_looked_up_by_places(ratio: Fraction, first: float) -> None:
    """A student's canvas of 32 pixels, a teacher's of 64 or 32, of which the image takes 36, 38.4 or 28.8."""
    side = 64 if ratio > 1 else 32
    relative = float(8 / ratio)
    found = view(output(8, 4), output(8, side // 8, places(relative, side // 8)), ratio, 32, side)
    (features,) = found.teacher.features.maps
    expected = torch.tensor([first, 12.0, 20.0, 28.0])
    torch.testing.assert_close(features[0, 0], expected.expand(4, 4))
    torch.testing.assert_close(features[0, 1], expected[:, None].expand(4, 4))
    cells = (torch.tensor([4.0, 12, 20, 28]) / relative + 1e-6).long()
    numbers = cells[:, None] * (side // 8) + cells
    assert found.teacher.predictions.class_logits[0, :, 0].tolist() == numbers.flatten().tolist()
    boxes = found.teacher.predictions.boxes()[0].view(4, 4, 4)
    torch.testing.assert_close(boxes[..., 0], ((cells + 0.5) * relative).expand(4, 4))


def test_cells_that_lie_on_one_another_are_taken_as_they_are() -> None:
    """Half of 96 pixels is 48, on a canvas of 64: eight cells of 8 pixels, of which the image has six."""
    noise = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = view(output(16, 6), output(8, 8, noise), Fraction(1, 2), 96, 64)
    assert torch.equal(found.teacher.features.maps[0], noise[..., :6, :6])
    rows = torch.arange(6)
    assert found.teacher.predictions.class_logits[0, :, 0].tolist() == (rows[:, None] * 8 + rows).flatten().tolist()
    assert found.teacher.predictions.grid.sizes == ((6, 6),)


def test_equal_canvases_are_not_copied() -> None:
    teacher = output(16, 4)
    found = view(output(8, 4), teacher, Fraction(2), 32, 64)
    assert found.teacher.features.maps[0] is teacher.features.maps[0]
    assert found.teacher.predictions.logits is teacher.predictions.logits
