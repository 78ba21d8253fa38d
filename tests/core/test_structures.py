from __future__ import annotations

import torch

from detdistill.core.structures import BACKGROUND, IGNORED, Assignment, Targets, single_process


def test_targets_join_images_in_order() -> None:
    boxes = [torch.rand(2, 4), torch.zeros(0, 4), torch.rand(1, 4)]
    labels = [torch.tensor([3, 1]), torch.zeros(0, dtype=torch.int64), torch.tensor([2])]
    targets = Targets.from_images(boxes, labels, torch.tensor([[10, 10]] * 3))
    assert targets.num_images == 3
    assert targets.image.tolist() == [0, 0, 2]
    assert targets.labels.tolist() == [3, 1, 2]
    moved = targets.to("meta")
    assert {moved.boxes.device.type, moved.image.device.type, moved.sizes.device.type} == {"meta"}


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
