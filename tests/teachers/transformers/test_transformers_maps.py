from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.teachers.transformers.transformers_maps import (
    Frame,
    canvas_grid,
    canvas_strides,
    features_on,
    predictions_on,
)

sides = st.integers(1, 8).map(lambda cells: 32 * cells)


@st.composite
def frames(draw: st.DrawFn) -> Frame:
    """An image on a canvas of multiples of 32, resized to multiples of 32, with or without padding."""
    canvas = draw(sides), draw(sides)
    image = draw(st.integers(1, canvas[0])), draw(st.integers(1, canvas[1]))
    network = draw(sides), draw(sides)
    padded = network[0] + 32 * draw(st.integers(0, 2)), network[1] + 32 * draw(st.integers(0, 2))
    return Frame(canvas, image, network, padded)


def whole(canvas: tuple[int, int], network: tuple[int, int]) -> Frame:
    return Frame(canvas, canvas, network, network)


def test_boxes_by_hand() -> None:
    """A 100 x 200 image, read as 50 x 50 of 100 x 50: half of the input is 100 pixels high, 100 of 200 wide."""
    frame = Frame((128, 256), (100, 200), (50, 50), (100, 50))
    boxes = frame.boxes(torch.tensor([0.5, 0.5, 0.5, 0.25])[None, [0, 1, 3, 2]])
    torch.testing.assert_close(boxes, torch.tensor([[75.0, 50.0, 125.0, 150.0]]))


@settings(max_examples=40)
@given(frames())
def test_the_part_of_the_input_that_is_the_image_is_the_image(frame: Frame) -> None:
    y, x = (own / whole for own, whole in zip(frame.network, frame.padded, strict=True))
    found = frame.boxes(torch.tensor([[x / 2, y / 2, x, y]]))
    expected = torch.tensor([[0.0, 0.0, frame.image[1], frame.image[0]]])
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    ("canvas", "network", "expected"),
    [
        ((640, 640), (640, 640), (8, 16, 32)),
        ((320, 320), (640, 640), (4, 8, 16)),
        ((480, 640), (640, 640), (8, 16, 32)),
        ((128, 128), (640, 640), (2, 4, 8)),
        ((32, 32), (640, 640), (1, 1, 2)),
        ((1280, 1280), (640, 640), (16, 32, 64)),
    ],
)
def test_strides_by_hand(canvas: tuple[int, int], network: tuple[int, int], expected: tuple[int, ...]) -> None:
    assert canvas_strides(whole(canvas, network), (8, 16, 32)) == expected


def test_a_stride_that_is_no_power_of_two_stays_where_nothing_is_resized() -> None:
    assert canvas_strides(whole((448, 448), (448, 448)), (14,)) == (14,)


@given(sides, sides, sides, sides)
def test_a_step_is_near_to_what_a_cell_covers(height: int, width: int, rows: int, columns: int) -> None:
    frame = whole((height, width), (rows, columns))
    for stride, step in zip((8, 16, 32), canvas_strides(frame, (8, 16, 32)), strict=True):
        covered = stride * math.sqrt(height * width / (rows * columns))
        assert step == 1 or math.sqrt(0.5) - 1e-6 <= step / covered <= math.sqrt(2) + 1e-6


@settings(max_examples=40)
@given(frames())
def test_features_keep_their_places(frame: Frame) -> None:
    """A map of its own coordinates, in pixels of the image, has those of the canvas's cells wherever it reaches."""
    stride = 8
    grid = canvas_grid(frame.canvas, canvas_strides(whole(frame.canvas, frame.padded), (stride,)), torch.device("cpu"))
    centers = [
        (torch.arange(-(-side // stride)) + 0.5) * stride * scale
        for side, scale in zip(frame.padded, frame.scale, strict=True)
    ]
    y, x = torch.meshgrid(*centers, indexing="ij")
    (found,) = features_on(frame, grid, (stride,), [torch.stack((y, x))[None]])
    rows, columns = grid.sizes[0]
    step = grid.strides[0][0]
    for axis, (count, own) in enumerate(zip((rows, columns), centers, strict=True)):
        expected = ((torch.arange(count) + 0.5) * step).clamp(float(own[0]), float(own[-1]))
        values = found[0, axis, :, 0] if axis == 0 else found[0, axis, 0]
        torch.testing.assert_close(values, expected, rtol=1e-4, atol=1e-2)


def encoder_view(frame: Frame, strides: tuple[int, ...]) -> tuple[list[Tensor], Tensor, Tensor]:
    """Maps, logits that count the cells, and box logits of cells whose centre is that of the cell."""
    maps, logits, boxes = [], [], []
    for stride in strides:
        rows, columns = (-(-side // stride) for side in frame.padded)
        maps.append(torch.zeros(1, 1, rows, columns))
        y, x = torch.meshgrid(
            (torch.arange(rows) + 0.5) * stride / frame.padded[0],
            (torch.arange(columns) + 0.5) * stride / frame.padded[1],
            indexing="ij",
        )
        boxes.append(torch.stack((x, y, torch.full_like(x, 0.1), torch.full_like(x, 0.1)), dim=-1).view(1, -1, 4))
        logits.append(torch.zeros(1, rows * columns, 2))
    return maps, torch.cat(logits, dim=1), torch.cat(boxes, dim=1).clamp(0.001, 0.999).logit()


@settings(max_examples=40)
@given(frames())
def test_predictions_come_from_the_cell_at_that_place(frame: Frame) -> None:
    strides = 8, 32
    grid = canvas_grid(frame.canvas, canvas_strides(whole(frame.canvas, frame.padded), strides), torch.device("cpu"))
    found = predictions_on(frame, grid, strides, *encoder_view(frame, strides))
    valid = found.candidates.valid
    assert valid is not None
    beyond = grid.centers - torch.tensor(frame.padded).flip(0) * torch.tensor(frame.scale).flip(0)
    inside, clear = valid[0], (beyond.abs() > 1e-3).all(dim=1)
    assert torch.equal(inside[clear], (beyond < 0).all(dim=1)[clear])
    boxes = found.boxes()[0]
    assert torch.equal(boxes[~inside], grid.priors[~inside])
    assert (found.logits[0, ~inside] == -20).all()
    distance = ((boxes[:, :2] + boxes[:, 2:]) / 2 - grid.centers).abs()[inside]
    scale_y, scale_x = frame.scale
    start = 0
    for level, stride in enumerate(strides):
        length = grid.level_lengths[level]
        count = int(inside[start : start + length].sum())
        own, distance = distance[:count], distance[count:]
        reach = torch.tensor([stride * scale_x, stride * scale_y]) / 2
        assert (own <= reach * 1.01 + 0.01 * max(frame.padded)).all()
        start += length


def test_masked_cells_do_not_exist() -> None:
    frame = whole((32, 32), (32, 32))
    grid = canvas_grid((32, 32), (8,), torch.device("cpu"))
    maps, logits, boxes = encoder_view(frame, (8,))
    boxes[0, 5] = torch.finfo(torch.float32).max
    found = predictions_on(frame, grid, (8,), maps, logits, boxes)
    assert found.candidates.valid is not None
    assert (~found.candidates.valid)[0].nonzero().flatten().tolist() == [5]
    assert torch.equal(found.boxes()[0, 5], grid.priors[5])
