from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.teachers.transformers.transformers_families import FAMILIES
from detdistill.teachers.transformers.transformers_outputs import boxes_of_queries, maps_of, probabilities_of


def test_no_object_is_left_out_of_a_softmax_alone() -> None:
    logits = torch.tensor([[[0.0, 0.0, 0.0]]])
    torch.testing.assert_close(probabilities_of(logits, "softmax"), torch.full((1, 1, 2), 1 / 3))
    torch.testing.assert_close(probabilities_of(logits, "sigmoid"), torch.full((1, 1, 3), 0.5))


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 2**16))
def test_the_best_pairs_of_query_and_class_come_first(queries: int, classes: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.rand(queries, classes, generator=generator)
    boxes = torch.arange(queries)[:, None].expand(-1, 4).float()
    found = boxes_of_queries(boxes, probabilities, one_class=False)
    pairs = sorted(((float(probabilities[q, c]), q, c) for q in range(queries) for c in range(classes)), reverse=True)
    detections = found.detections()
    best = zip(
        detections.scores.tolist(), detections.boxes[:, 0].int().tolist(), detections.labels.tolist(), strict=True
    )
    assert list(best)[:queries] == pairs[:queries]
    # Every query is there with all that it thinks.
    assert {int(box[0]) for box in found.boxes} == set(range(queries))
    assert torch.equal(found.probabilities, probabilities[found.boxes[:, 0].long()])
    single = boxes_of_queries(boxes, probabilities, one_class=True)
    assert sorted(single.boxes[:, 0].tolist()) == list(range(queries))
    assert torch.equal(single.labels, single.probabilities.argmax(dim=1))


@given(st.integers(33, 300), st.integers(33, 300), st.sampled_from([1, 3, 4]))
def test_tokens_become_maps_level_by_level(height: int, width: int, levels: int) -> None:
    strides = [32] if levels == 1 else [8 * 2**level for level in range(levels)]
    sizes = [(-(-height // stride), -(-width // stride)) for stride in strides]
    tokens = torch.arange(sum(rows * columns for rows, columns in sizes)).float()[None, :, None]
    output = SimpleNamespace(encoder_last_hidden_state=tokens)
    config = SimpleNamespace(num_feature_levels=levels)
    found, maps = maps_of(output, FAMILIES["deformable_detr"], config, (height, width))
    assert list(found) == strides
    assert [tuple(each.shape[-2:]) for each in maps] == sizes
    assert torch.equal(torch.cat([each.flatten() for each in maps]), tokens.flatten())


def test_a_dilated_backbone_has_stride_16() -> None:
    output = SimpleNamespace(encoder_last_hidden_state=torch.zeros(1, 6 * 8, 3))
    strides, maps = maps_of(output, FAMILIES["detr"], SimpleNamespace(), (96, 128))
    assert strides == (16,)
    assert maps[0].shape == (1, 3, 6, 8)


def test_tokens_of_no_known_stride_are_refused() -> None:
    output = SimpleNamespace(encoder_last_hidden_state=torch.zeros(1, 7, 3))
    with pytest.raises(DetdistillError, match="7 tokens"):
        maps_of(output, FAMILIES["detr"], SimpleNamespace(), (96, 128))
