from __future__ import annotations

import torch

from detdistill.distill.positives import taught_positives
from detdistill.structures import BACKGROUND, Assignment, Targets


def test_positives_of_unknown_classes_are_left_out() -> None:
    boxes = torch.arange(12.0).view(3, 4)
    targets = Targets(boxes, torch.tensor([2, BACKGROUND, 0]), torch.tensor([0, 0, 1]), torch.tensor([[9, 9], [9, 9]]))
    (image, prior), goals = taught_positives(Assignment(torch.tensor([[0, 1, -1, 0], [-2, 2, -1, -1]])), targets)
    assert image.tolist() == [0, 0, 1]
    assert prior.tolist() == [0, 3, 1]
    assert torch.equal(goals, boxes[[0, 0, 2]])
