from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from detdistill.core.image_options import ImageOptions
from detdistill.training.bf16_faults import Convolution, fault, has_bf16_instructions, narrow_shortcuts

SIDES = st.integers(1, 20).map(lambda number: 32 * number)


def convolution(
    channels: int = 64,
    kernel: int = 3,
    stride: int = 1,
    cells: tuple[int, ...] = (4, 4),
    made: tuple[int, ...] = (4, 4),
) -> Convolution:
    size = len(cells)
    return Convolution(channels, (kernel,) * size, (stride,) * size, cells, made)


@pytest.mark.parametrize("channels", [1, 3, 8, 15, 16, 17, 64])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("stride", [1, 2, (1, 2), 3])
def test_narrow_convolutions_of_one_cell_with_a_stride_are_found_in_modules_and_in_steps(
    channels: int, kernel: int, stride: int | tuple[int, int]
) -> None:
    expected = channels < 16 and kernel == 1 and stride != 1
    module = nn.Sequential(nn.ReLU(), nn.Conv2d(channels, 8, kernel, stride=stride))
    assert narrow_shortcuts(module) == (["1"] if expected else [])
    strides = stride if isinstance(stride, tuple) else (stride, stride)
    seen = Convolution(channels, (kernel, kernel), strides, (8, 8), (4, 4))
    assert (fault([convolution(), seen], (256, 256), (256, 256)) is not None) is expected


@pytest.mark.parametrize(
    ("cells", "made", "expected"),
    [
        ((1, 1), (1, 1), True),
        ((2, 2), (1, 1), False),
        ((1, 1), (2, 2), False),
        ((1, 2), (1, 2), False),
        ((1,), (1,), True),
        ((1, 1, 1), (1, 1, 1), True),
        ((2, 1, 1), (2, 1, 1), False),
    ],
)
def test_convolutions_from_one_cell_to_one_are_found(
    cells: tuple[int, ...], made: tuple[int, ...], expected: bool
) -> None:
    assert (fault([convolution(cells=cells, made=made)], (256, 256), (256, 256)) is not None) is expected


@given(st.integers(2, 9), st.tuples(SIDES, SIDES), st.integers(0, 20).map(lambda more: 32 * more))
def test_no_map_of_one_cell_on_the_smallest_canvas_is_missed(power: int, more: tuple[int, int], least: int) -> None:
    """Whatever the canvas of the batch is."""
    stride, smallest = 2**power, (32 + least, 32 + least)
    canvas = (smallest[0] + more[0], smallest[1] + more[1])
    cells = tuple(-(-side // stride) for side in canvas)
    seen = [convolution(cells=cells, made=cells)]
    if stride >= smallest[0]:
        assert fault(seen, canvas, smallest) is not None
    if all(side >= 4 * stride for side in smallest):
        assert fault(seen, canvas, smallest) is None


@given(st.integers(32, 900), st.integers(0, 900), st.integers(1, 3000), st.integers(1, 3000))
def test_no_canvas_has_a_shorter_long_side_than_that_of_a_square_image(
    short: int, more: int, height: int, width: int
) -> None:
    options = ImageOptions(short_side=short, long_side=short + more)
    assert max(options.canvas_of((height, width))) >= max(options.canvas_of((1, 1)))


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": False}, False),
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "aarch64"}, True),
    ],
)
def test_instructions_of_the_processor(
    known: dict[str, object], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: known)
    assert has_bf16_instructions() is expected
