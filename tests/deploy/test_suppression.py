from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import nms

from detdistill.deploy.onnx_operators import onnx_translations
from detdistill.detectors.suppression import kept_by_nms


@given(st.integers(0, 10**6), st.integers(0, 4), st.integers(0, 12), st.sampled_from([0.0, 0.5, 1.0]))
def test_each_image_is_suppressed_by_itself(seed: int, images: int, count: int, iou: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, 6, (images, count, 2), generator=generator)
    sides = torch.randint(1, 5, (images, count, 2), generator=generator)
    boxes = torch.cat([corners, corners + sides], dim=2).float()
    scores = torch.rand((images, count), generator=generator) - 0.3
    kept = kept_by_nms(boxes, scores, iou)
    assert kept.shape == scores.shape
    for image in range(images):
        scored = (scores[image] >= 0).nonzero().squeeze(1)
        expected = scored[nms(boxes[image, scored], scores[image, scored], iou)]
        assert set(kept[image].nonzero().squeeze(1).tolist()) == set(expected.tolist())


def test_the_operator_has_a_form_in_onnx() -> None:
    assert torch.ops.detdistill.kept_by_nms.default in onnx_translations()
