from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.core.normalization import IMAGENET, Normalization


@given(height=st.integers(1, 6), width=st.integers(1, 6), bgr=st.booleans(), seed=st.integers(0, 99))
def test_matches_the_definition_pixel_by_pixel(height: int, width: int, bgr: bool, seed: int) -> None:
    images = torch.randint(0, 256, (1, 3, 7, 8), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    normalization = Normalization((10.0, 20.0, 30.0), (2.0, 4.0, 8.0), bgr=bgr)
    result = normalization(images, torch.tensor([[height, width]]))
    for channel in range(3):
        source = 2 - channel if bgr else channel
        for row in range(7):
            for column in range(8):
                pixel = float(images[0, source, row, column])
                inside = row < height and column < width
                expected = (pixel - normalization.mean[source]) / normalization.std[source] if inside else 0.0
                assert abs(float(result[0, channel, row, column]) - expected) < 1e-5


@pytest.mark.parametrize("deviation", [0.0, -1.0, float("nan")])
def test_deviations_are_above_zero(deviation: float) -> None:
    with pytest.raises(DetdistillError, match=r"std\[1\] must be"):
        Normalization((0.0, 0.0, 0.0), (1.0, deviation, 1.0))


def test_uint8_and_float_batches_agree_and_stay_float32() -> None:
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    sizes = torch.tensor([[4, 4], [2, 3]])
    assert IMAGENET(images, sizes).dtype == torch.float32
    torch.testing.assert_close(IMAGENET(images, sizes), IMAGENET(images.float(), sizes))


def test_the_mean_colour_becomes_zero_and_one_deviation_one() -> None:
    mean = torch.tensor(IMAGENET.mean)[None, :, None, None].expand(1, 3, 2, 2)
    deviation = torch.tensor(IMAGENET.std)[None, :, None, None]
    sizes = torch.tensor([[2, 2]])
    torch.testing.assert_close(IMAGENET(mean, sizes), torch.zeros(1, 3, 2, 2))
    torch.testing.assert_close(IMAGENET(mean + deviation, sizes), torch.ones(1, 3, 2, 2))
