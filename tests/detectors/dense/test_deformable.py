from __future__ import annotations

import torch
import torch.nn.functional as F

from detdistill.detectors.dense.deformable import DeformableConv


def test_starts_as_half_a_convolution() -> None:
    conv = DeformableConv(3, 5, bias=True)
    features = torch.randn(2, 3, 7, 9)
    expected = F.conv2d(features, conv.conv.weight, conv.conv.bias, padding=1)
    torch.testing.assert_close(conv(features), 0.5 * expected, rtol=1e-4, atol=1e-6)


def test_taps_move_and_fade() -> None:
    conv = DeformableConv(1, 1, bias=False)
    with torch.no_grad():
        conv.conv.weight.zero_()
        conv.conv.weight[0, 0, 1, 1] = 1
        assert conv.sampling.bias is not None
        conv.sampling.bias[2 * 4 : 2 * 4 + 2] = torch.tensor([0.0, 1.0])
        conv.sampling.bias[18 + 4] = torch.log(torch.tensor(3.0))
    features = torch.arange(12.0).reshape(1, 1, 3, 4)
    moved = conv(features)[..., :-1]
    torch.testing.assert_close(moved, 0.75 * features[..., 1:])


def test_works_under_bfloat16() -> None:
    conv = DeformableConv(4, 4, bias=False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert conv(torch.randn(1, 4, 5, 5)).isfinite().all()
