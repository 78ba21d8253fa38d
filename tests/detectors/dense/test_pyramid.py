from __future__ import annotations

import pytest
import torch

from detdistill.detectors.dense.choices import ExtraSource
from detdistill.detectors.dense.pyramid import Pyramid

CHANNELS, STRIDES = (4, 6, 8), (8, 16, 32)


def maps() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(1, channels, 16 // 2**level, 24 // 2**level) for level, channels in enumerate(CHANNELS)]


@pytest.mark.parametrize("source", ["input", "output"])
def test_levels_and_strides(source: ExtraSource) -> None:
    pyramid = Pyramid(CHANNELS, STRIDES, 5, extra_levels=2, extra_source=source)
    assert pyramid.strides == (8, 16, 32, 64, 128)
    sizes = [tuple(level.shape[1:]) for level in pyramid(maps())]
    assert sizes == [(5, 16, 24), (5, 8, 12), (5, 4, 6), (5, 2, 3), (5, 1, 2)]


def test_without_extra_levels() -> None:
    pyramid = Pyramid(CHANNELS, STRIDES, 5, extra_levels=0)
    assert pyramid.strides == STRIDES
    assert len(pyramid(maps())) == 3


@pytest.mark.parametrize("source", ["input", "output"])
def test_the_first_extra_level_comes_from_its_source(source: ExtraSource) -> None:
    pyramid = Pyramid(CHANNELS, STRIDES, 5, extra_levels=1, extra_source=source)
    features = maps()
    levels = pyramid(features)
    conv = pyramid.fpn.extra_blocks.convs[0]
    torch.testing.assert_close(levels[-1], conv(features[-1] if source == "input" else levels[-2]))


def test_relu_stands_before_the_second_extra_level_only() -> None:
    plain = Pyramid(CHANNELS, STRIDES, 5, extra_levels=2)
    rectified = Pyramid(CHANNELS, STRIDES, 5, extra_levels=2, extra_relu=True)
    rectified.load_state_dict(plain.state_dict())
    without, with_relu = plain(maps()), rectified(maps())
    assert torch.equal(without[3], with_relu[3])
    conv = plain.fpn.extra_blocks.convs[1]
    torch.testing.assert_close(with_relu[4], conv(without[3].relu()))
    assert not torch.equal(without[4], with_relu[4])
