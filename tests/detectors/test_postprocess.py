from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import nms

from detdistill.core.errors import DetdistillError
from detdistill.core.grid import Grid
from detdistill.core.output import Candidates, Output, Predictions
from detdistill.detectors.dense.coders import DistanceCoder
from detdistill.detectors.postprocess import PostProcessing, rank_within


def make_output(seed: int, batch: int, num_classes: int, quality: bool) -> tuple[Output, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    base = torch.tensor([[[0.0, 0.0, 8.0, 8.0]], [[0.0, 0.0, 16.0, 16.0]]])
    grid = Grid(((6, 8), (3, 4)), ((8, 8), (16, 16)), tuple(base))
    shape = (batch, grid.num_priors)
    output = Output.dense(
        (),
        Predictions(
            Candidates(grid),
            torch.randn(*shape, num_classes, generator=generator) * 3,
            torch.rand(*shape, 4, generator=generator) * 30,
            DistanceCoder("pixel"),
            torch.randn(shape, generator=generator) if quality else None,
        ),
    )
    sizes = torch.randint(20, 49, (batch, 2), generator=generator)
    return output, sizes


def one_by_one(
    output: Output, sizes: Tensor, settings: PostProcessing
) -> list[list[tuple[float, int, tuple[float, ...]]]]:
    """The plain form: image by image, level by level, class by class."""
    results = []
    classes, scores, boxes = (
        output.predictions.class_logits.sigmoid(),
        output.predictions.scores(),
        output.predictions.boxes(),
    )
    for image, (height, width) in enumerate(sizes.tolist()):
        best: list[tuple[float, int, int]] = []
        start = 0
        for length in output.predictions.grid.level_lengths:
            level = classes[image, start : start + length]
            pairs = [
                (float(level[p, c]), start + p, c)
                for p in range(length)
                for c in range(level.shape[1])
                if level[p, c] > settings.score_threshold
            ]
            pairs.sort(key=lambda pair: -pair[0])
            best += pairs[: settings.candidates_per_level]
            start += length
        best.sort(key=lambda pair: -pair[0])
        chosen = [(p, c) for _, p, c in best[: settings.candidates_per_image]]
        found = []
        for label in range(classes.shape[2]):
            priors = [p for p, c in chosen if c == label]
            if not priors:
                continue
            limit = torch.tensor([width, height, width, height])
            of_class = boxes[image, priors].clamp(min=torch.zeros(4), max=limit)
            kept = (of_class[:, 2] > of_class[:, 0]) & (of_class[:, 3] > of_class[:, 1])
            of_class, of_scores = of_class[kept], scores[image, priors, label][kept]
            survivors = nms(of_class.double(), of_scores.double(), settings.iou_threshold).tolist()
            found += [(float(of_scores[index]), label, tuple(of_class[index].tolist())) for index in survivors]
        found.sort(key=lambda detection: -detection[0])
        results.append(found[: settings.max_detections])
    return results


@settings(max_examples=40)
@given(
    st.integers(0, 10_000),
    st.integers(1, 3),
    st.integers(1, 3),
    st.booleans(),
    st.sampled_from([0.0, 0.05, 0.4, 0.99]),
    st.sampled_from([1, 7, 1000]),
    st.sampled_from([1, 5, 100]),
    st.sampled_from([None, 1, 9, 1000]),
)
def test_batched_equals_one_by_one(
    seed: int,
    batch: int,
    num_classes: int,
    quality: bool,
    threshold: float,
    candidates: int,
    detections: int,
    of_image: int | None,
) -> None:
    output, sizes = make_output(seed, batch, num_classes, quality)
    rule = PostProcessing(threshold, 0.5, candidates, detections, candidates_per_image=of_image)
    for found, expected in zip(rule(output.predictions, sizes), one_by_one(output, sizes, rule), strict=True):
        assert found.labels.tolist() == [label for _, label, _ in expected]
        torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in expected]))
        torch.testing.assert_close(found.boxes, torch.tensor([box for _, _, box in expected]).reshape(-1, 4))


def test_neighbours_in_the_batch_do_not_matter() -> None:
    output, sizes = make_output(3, 3, 2, quality=True)
    assert output.predictions.quality_logits is not None
    together = PostProcessing()(output.predictions, sizes)
    for image in range(3):
        alone = Output.dense(
            (),
            Predictions(
                Candidates(output.predictions.grid),
                output.predictions.class_logits[image : image + 1],
                output.predictions.regression[image : image + 1],
                output.predictions.coder,
                output.predictions.quality_logits[image : image + 1],
            ),
        )
        (found,) = PostProcessing()(alone.predictions, sizes[image : image + 1])
        assert torch.equal(found.boxes, together[image].boxes)
        assert torch.equal(found.scores, together[image].scores)


def test_class_agnostic_nms_leaves_one_class_a_place() -> None:
    output, sizes = make_output(5, 2, 3, quality=False)
    everything = PostProcessing(iou_threshold=1.0, max_detections=10_000)(output.predictions, sizes)
    agnostic = PostProcessing(iou_threshold=0.5, max_detections=10_000, class_agnostic=True)(output.predictions, sizes)
    for one, other in zip(everything, agnostic, strict=True):
        kept = nms(one.boxes.double(), one.scores.double(), 0.5)
        assert len(kept) < len(one)
        torch.testing.assert_close(other.boxes, one.boxes[kept])
        assert other.labels.tolist() == one.labels[kept].tolist()


def test_nothing_above_the_threshold() -> None:
    output, sizes = make_output(0, 2, 2, quality=False)
    found = PostProcessing(score_threshold=0.999999)(output.predictions, sizes)
    assert [len(detections) for detections in found] == [0, 0]
    assert found[0].boxes.shape == (0, 4)


def test_threshold_zero_keeps_every_candidate() -> None:
    output, _ = make_output(0, 1, 1, quality=False)
    everything = PostProcessing(score_threshold=0.0, iou_threshold=1.0)
    (found,) = everything(output.predictions, torch.tensor([[500, 500]]))
    assert len(found) == output.predictions.grid.num_priors


def test_candidates_that_do_not_exist_are_left_out_of_the_best_of_an_image() -> None:
    grid = Grid(((1, 2),), ((8, 8),), (torch.tensor([[0.0, 0.0, 8.0, 8.0]]),))
    valid = torch.tensor([[False, True]])
    logits, distances = torch.tensor([[[3.0], [-3.0]]]), torch.full((1, 2, 4), 4.0)
    predictions = Predictions(Candidates(grid, valid=valid), logits, distances, DistanceCoder("pixel"))
    rule = PostProcessing(score_threshold=0.0, candidates_per_image=2)
    (found,) = rule(predictions, torch.tensor([[8, 16]]))
    assert found.boxes.tolist() == [[8, 0, 16, 8]]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0.05, 0.5, 1000, 100, False, 0), "candidates_per_image"),
        ((1.0, 0.5, 1000, 100), "score_threshold"),
        ((-0.1, 0.5, 1000, 100), "score_threshold"),
        ((0.05, 1.5, 1000, 100), "iou_threshold"),
        ((0.05, 0.5, -1, 0), "(?s)candidates_per_level.*max_detections"),
    ],
)
def test_settings_out_of_range_are_refused(values: tuple[Any, ...], message: str) -> None:
    with pytest.raises(DetdistillError, match=message):
        PostProcessing(*values)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=20))
def test_rank_within(items: list[tuple[int, int]]) -> None:
    groups = torch.tensor([group for group, _ in items], dtype=torch.int64)
    scores = torch.tensor([float(score) for _, score in items])
    order, rank = rank_within(groups, scores)
    expected = sorted(range(len(items)), key=lambda item: (items[item][0], -items[item][1], item))
    assert order.tolist() == expected
    ranks = [
        sum(items[other][0] == items[item][0] for other in expected[:place]) for place, item in enumerate(expected)
    ]
    assert rank.tolist() == ranks
