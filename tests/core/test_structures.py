from __future__ import annotations

from dataclasses import replace

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.draws import Draws
from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Detections, Targets, single_process


def test_targets_join_images_in_order() -> None:
    boxes = [torch.rand(2, 4), torch.zeros(0, 4), torch.rand(1, 4)]
    labels = [torch.tensor([3, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([2])]
    targets = Targets.from_images(boxes, labels, torch.tensor([[10, 10]] * 3))
    assert targets.num_images == 3
    assert targets.image.tolist() == [0, 0, 2]
    assert targets.labels.tolist() == [3, 1, 2]
    assert targets.ignored.shape == (0, 4)
    moved = targets.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, Tensor)]
    assert len(tensors) == 6
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_defaults_are_where_the_boxes_are() -> None:
    nothing = torch.zeros(0, dtype=torch.int64, device="meta")
    targets = Targets(torch.zeros(0, 4, device="meta"), nothing, nothing, torch.zeros(1, 2, device="meta"))
    assert {targets.ignored.device.type, targets.ignored_image.device.type} == {"meta"}


counts = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=5)


@given(counts, st.data())
def test_a_range_of_images_is_the_batch_of_these_images(numbers: list[tuple[int, int]], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(numbers)))
    stop = data.draw(st.integers(start + 1, len(numbers))) if start < len(numbers) else start
    boxes, ignored = ([torch.rand(pair[kind], 4) for pair in numbers] for kind in (0, 1))
    labels = [torch.arange(count) for count, _ in numbers]
    sizes = torch.arange(2 * len(numbers)).reshape(-1, 2)
    whole = Targets.from_images(boxes, labels, sizes, ignored=ignored)
    assert whole.ignored_image.tolist() == [image for image, (_, count) in enumerate(numbers) for _ in range(count)]
    found = replace(whole, draws=Draws(1, 2, tuple(range(len(numbers))))).of_images(start, stop)
    assert found.draws == Draws(1, 2, tuple(range(start, stop)))
    assert whole.of_images(start, stop).draws is None
    if start == stop:
        assert found.num_images == len(found.boxes) == len(found.ignored) == 0
        return
    part = slice(start, stop)
    expected = Targets.from_images(boxes[part], labels[part], sizes[part], ignored=ignored[part])
    for name in ("boxes", "labels", "image", "sizes", "ignored", "ignored_image"):
        assert torch.equal(getattr(found, name), getattr(expected, name)), name


def test_assignment_names_positives_and_labels() -> None:
    targets = Targets(torch.rand(2, 4), torch.tensor([5, 0]), torch.tensor([0, 1]), torch.tensor([[8, 8], [8, 8]]))
    assignment = Assignment(torch.tensor([[BACKGROUND, 0, IGNORED], [1, BACKGROUND, 1]]))
    image, prior = assignment.positive
    assert image.tolist() == [0, 1, 1]
    assert prior.tolist() == [1, 0, 2]
    assert assignment.positive_targets.tolist() == [0, 1, 1]
    assert assignment.labels(targets).tolist() == [[BACKGROUND, 5, IGNORED], [0, BACKGROUND, 0]]


def test_assignment_without_objects_has_no_labels() -> None:
    nothing = Targets.from_images([torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)], torch.tensor([[8, 8]]))
    assignment = Assignment(torch.full((1, 3), BACKGROUND))
    assert assignment.labels(nothing).tolist() == [[BACKGROUND] * 3]
    assert len(assignment.positive_targets) == 0


def test_single_process_sums_nothing() -> None:
    value = torch.tensor([1.0, 2.0])
    assert single_process(value) is value


def test_masks_follow_their_objects() -> None:
    bitmaps = torch.zeros(3, 6, 8, dtype=torch.uint8)
    bitmaps[0, 1:3, 2:5], bitmaps[2, 4:, :3] = 1, 1
    targets = Targets(
        torch.rand(3, 4),
        torch.tensor([1, 0, 2]),
        torch.tensor([0, 1, 1]),
        torch.tensor([[6, 8], [5, 8]]),
        masks=InstanceMasks.of_bitmaps(bitmaps),
    )
    second = targets.of_images(1, 2).masks
    assert second is not None
    assert torch.equal(second.bitmaps(), bitmaps[1:])
    moved = targets.to("meta").masks
    assert moved is not None
    assert moved.pixels.device.type == "meta"


def test_some_detections_keep_their_masks() -> None:
    masks = InstanceMasks.of_bitmaps(torch.eye(3, dtype=torch.uint8).expand(2, -1, -1))
    found = Detections(
        torch.rand(2, 4),
        torch.tensor([0.9, 0.1]),
        torch.tensor([0, 1]),
        mask_probabilities=torch.rand(2, 4, 4),
        masks=masks,
    )
    best = found.take(found.scores > 0.5)
    assert best.mask_probabilities is not None
    assert best.masks is not None
    assert (len(best), len(best.mask_probabilities), len(best.masks)) == (1, 1, 1)
    assert best.masks.bitmaps().sum() == 3
    plain = Detections(found.boxes, found.scores, found.labels).take(torch.tensor([1, 0, 0]))
    assert plain.labels.tolist() == [1, 0, 0]
    assert plain.masks is None
    assert plain.mask_probabilities is None
