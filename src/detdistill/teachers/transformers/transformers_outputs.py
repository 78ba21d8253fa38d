"""What is read off the outputs of transformers' detectors.

Letters in shapes: N images, Q queries, C classes, D channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.output import Activation
from detdistill.core.structures import TeacherBoxes
from detdistill.teachers.transformers.transformers_families import Family

FINEST = 8
"""Stride in pixels of the finest level of a detector with several levels of tokens."""
SINGLE = 32, 16
"""Strides in pixels that a detector with one level of tokens can have: that of the backbone, and with dilation."""


def probabilities_of(logits: Tensor, activation: Activation) -> Tensor:
    """`(N, Q, C)` class probabilities of logits; of a softmax, "no object" in the last column is left out."""
    return logits.sigmoid() if activation == "sigmoid" else logits.softmax(dim=-1)[..., :-1]


def boxes_of_queries(boxes: Tensor, probabilities: Tensor, *, one_class: bool) -> TeacherBoxes:
    """Return what the queries of an image predict: each query with its best class, so nothing is unknown.

    Where queries can be of several classes, a query comes again for each further class with which it is among the Q
    best pairs of a query and a class: these pairs are the detections of transformers' own post-processing. To
    opinions, the same box twice is the same as once.

    Args:
        boxes: `(Q, 4)` in pixels.
        probabilities: `(Q, C)`.
        one_class: a query is of one class only.
    """
    query = torch.arange(len(boxes), device=boxes.device)
    label = probabilities.argmax(dim=1)
    if not one_class:
        best = probabilities.flatten().topk(len(boxes)).indices
        queries, labels = best // probabilities.shape[1], best % probabilities.shape[1]
        further = labels != label[queries]
        query, label = torch.cat((query, queries[further])), torch.cat((label, labels[further]))
    order = probabilities[query, label].argsort(descending=True, stable=True)
    query, label = query[order], label[order]
    return TeacherBoxes(boxes[query], label, probabilities[query])


def maps_of(
    output: Any, family: Family, config: Any, size: tuple[int, int]
) -> tuple[tuple[int, ...], tuple[Tensor, ...]]:
    """Return the strides in pixels of a detector's feature maps, and the maps, L x `(N, D, H, W)` float32.

    Args:
        output: of the model.
        family: of the detector.
        config: the model's.
        size: height and width of its input in pixels.

    Raises:
        DetdistillError: the tokens are those of no known strides.
    """
    match family.maps:
        case "pyramid":
            maps = tuple(level.float() for level in output.encoder_last_hidden_state)
            return tuple(round(size[0] / level.shape[-2]) for level in maps), maps
        case "backbone":
            features = output.backbone_features.float()
            return (round(size[0] / features.shape[-2]),), (features,)
        case _:
            tokens = output.encoder_last_hidden_state.float()
            levels = getattr(config, "num_feature_levels", 1)
            return _maps_of_tokens(tokens, levels, size)


def _maps_of_tokens(tokens: Tensor, levels: int, size: tuple[int, int]) -> tuple[tuple[int, ...], tuple[Tensor, ...]]:
    choices: Sequence[tuple[int, ...]] = [(stride,) for stride in SINGLE]
    if levels > 1:
        choices = [tuple(FINEST * 2**level for level in range(levels))]
    for strides in choices:
        sizes = [(-(-size[0] // stride), -(-size[1] // stride)) for stride in strides]
        lengths = [height * width for height, width in sizes]
        if sum(lengths) == tokens.shape[1]:
            parts = torch.split(tokens.transpose(1, 2), lengths, dim=2)
            return strides, tuple(part.reshape(*part.shape[:2], *own) for part, own in zip(parts, sizes, strict=True))
    raise DetdistillError(
        f"the teacher's encoder has {tokens.shape[1]} tokens for {size[0]}x{size[1]} pixels; expected those of maps "
        f"with strides {' or '.join(str(each).strip('(,)') for each in choices)}: choose terms that need no features"
    )
