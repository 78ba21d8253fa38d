from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.teachers.onnx.onnx_card import CardInput
from detdistill.teachers.onnx.onnx_input import as_input, input_size, placed

SIDES = st.integers(1, 200)


def card(**changes: Any) -> CardInput:
    values: dict[str, Any] = {
        "image": "images",
        "size": (64, 64),
        "pixel_range": "0..255",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "resize": "stretch",
        "pad_color": (114.0, 0.0, 7.0),
    }
    return CardInput(**(values | changes))


def canvas(height: int, width: int, size: tuple[int, int], value: int = 50) -> Tensor:
    """`(1, 3, height, width)`, `value` inside of the image, 255 beyond."""
    images = torch.full((1, 3, height, width), 255, dtype=torch.uint8)
    images[:, :, : size[0], : size[1]] = value
    return images


@pytest.mark.parametrize(
    ("resize", "size", "inside"),
    [
        ("stretch", (16, 32), (0, 0, 64, 64)),
        ("letterbox", (16, 32), (0, 16, 64, 48)),
        ("letterbox", (32, 32), (0, 0, 64, 64)),
        ("letterbox", (64, 32), (16, 0, 48, 64)),
        ("letterbox", (64, 33), (15, 0, 48, 64)),
        ("pad", (16, 32), (0, 0, 32, 16)),
        ("pad", (64, 128), (0, 0, 64, 32)),
    ],
)
def test_an_image_lies_where_the_card_says_and_its_boxes_come_back(
    resize: Any, size: tuple[int, int], inside: tuple[int, int, int, int]
) -> None:
    found = placed(canvas(64, 128, size), torch.tensor([size]), card(resize=resize), keep_place=False)
    left, top, right, bottom = inside
    assert found.pixels.shape == (1, 3, 64, 64)
    assert found.pixels[0, :, top:bottom, left:right].eq(50).all()
    outside = torch.ones(64, 64, dtype=torch.bool)
    outside[top:bottom, left:right] = False
    for channel, color in zip(found.pixels[0], (114.0, 0.0, 7.0), strict=True):
        assert channel[outside].eq(color).all()
    box = torch.tensor([[inside]], dtype=torch.float32)
    assert found.to_canvas(box).tolist() == [[[0.0, 0.0, size[1], size[0]]]]
    assert found.filling("mask")[0].eq(~outside).all()
    assert found.filling("input_wh").tolist() == [[64, 64]]
    assert found.filling("original_hw").tolist() == [list(size)]
    assert found.filling("original_wh").tolist() == [[size[1], size[0]]]
    assert found.filling("resized_hw").tolist() == [[bottom - top, right - left]]


@settings(max_examples=60)
@given(st.sampled_from(["stretch", "letterbox", "pad"]), SIDES, SIDES, SIDES, SIDES)
def test_every_image_fits_and_its_border_comes_back(
    resize: Any, height: int, width: int, rows: int, columns: int
) -> None:
    own = card(resize=resize, size=(rows, columns))
    found = placed(canvas(height, width, (height, width)), torch.tensor([[height, width]]), own, keep_place=False)
    (size,), (offset,) = found.resized.tolist(), found.offset.tolist()
    assert 0 <= offset[0] <= rows - size[0]
    assert 0 <= offset[1] <= columns - size[1]
    corners = torch.tensor([[[offset[1], offset[0], offset[1] + size[1], offset[0] + size[0]]]]).float()
    expected = torch.tensor([[[0.0, 0.0, width, height]]])
    assert torch.allclose(found.to_canvas(corners), expected, atol=1e-3)


def test_a_canvas_of_the_inputs_size_is_kept_where_cells_matter() -> None:
    images, size = canvas(64, 64, (16, 32)), torch.tensor([[16, 32]])
    kept = placed(images, size, card(resize="letterbox"), keep_place=True)
    assert kept.unmoved
    assert kept.offset.tolist() == [[0, 0]]
    assert kept.pixels[0, :, :16, :32].eq(50).all()
    assert kept.pixels[0, 0, 16:].eq(114).all()
    other = placed(canvas(32, 64, (16, 32)), size, card(resize="letterbox"), keep_place=True)
    assert not other.unmoved
    assert other.resized.tolist() == [[32, 64]]


def test_a_file_of_any_size_reads_multiples() -> None:
    assert input_size(card(size=None, multiple=32), (33, 64)) == (64, 64)
    assert input_size(card(size=(48, 40), multiple=32), (33, 64)) == (48, 40)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [51.0, 102.0, 204.0]),
        ({"pixel_range": "0..1"}, [0.2, 0.4, 0.8]),
        ({"pixel_range": "0..1", "mean": (0.1, 0.2, 0.4), "std": (0.5, 1.0, 2.0)}, [0.2, 0.2, 0.2]),
        ({"mean": (1.0, 2.0, 4.0), "bgr": True}, [200.0, 100.0, 50.0]),
        ({"layout": "nhwc"}, [51.0, 102.0, 204.0]),
    ],
)
def test_pixels_as_the_network_takes_them(changes: dict[str, Any], expected: list[float]) -> None:
    pixels = torch.tensor([51.0, 102.0, 204.0])[None, :, None, None].expand(1, 3, 2, 4)
    found = as_input(pixels, card(**changes), "tensor(float)")
    assert found.shape == ((1, 2, 4, 3) if "layout" in changes else (1, 3, 2, 4))
    values = found[0, 0, 0] if "layout" in changes else found[0, :, 0, 0]
    assert values.tolist() == pytest.approx(expected)


def test_bytes_and_half_precision() -> None:
    pixels = torch.tensor([50.5, 254.9, 0.2])[None, :, None, None]
    assert as_input(pixels, card(), "tensor(uint8)").flatten().tolist() == [50, 255, 0]
    assert as_input(pixels, card(), "tensor(float16)").dtype == "float16"
