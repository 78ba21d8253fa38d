from __future__ import annotations

import copy

import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers.conv2d_same import Conv2dSame

from detdistill.deploy.fixed_padding import FixedPadding, fix_padding


@given(st.integers(1, 7), st.integers(1, 7), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.integers(1, 4))
def test_on_whole_strides_it_is_tensorflows(
    kernel_height: int, kernel_width: int, stride: int, dilation: int, rows: int, columns: int
) -> None:
    kernel = kernel_height, kernel_width
    convolution = Conv2dSame(2, 3, kernel, stride=(stride, 2 * stride), dilation=dilation)
    maps = torch.randn(1, 2, rows * stride, columns * 2 * stride)
    expected = convolution(maps)
    found = FixedPadding(convolution)(maps)
    assert found.shape == (1, 3, rows, columns)
    torch.testing.assert_close(found, expected)


def test_a_whole_backbone_stays_what_it_was() -> None:
    network = timm.create_model("tf_mobilenetv3_small_minimal_100", features_only=True).eval()
    fixed = copy.deepcopy(network)
    fix_padding(fixed)
    assert sum(isinstance(module, FixedPadding) for module in fixed.modules()) == 5
    for shape in ((1, 3, 64, 96), (2, 3, 32, 32)):
        images = torch.randn(shape)
        torch.testing.assert_close(fixed(images), network(images))
