from __future__ import annotations

import copy

import torch
from torch import nn

from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import TeacherBatch
from support.pairs import confident
from support.tiny_detector import tiny_detector

IMAGES, SIZES = torch.randint(0, 256, (2, 3, 64, 96), dtype=torch.uint8), torch.tensor([[64, 96], [48, 80]])


class Owner(nn.Module):
    def __init__(self, teacher: DetectorTeacher) -> None:
        super().__init__()
        self.teacher = teacher


def test_a_detector_that_teaches_is_frozen_and_no_part_of_its_owner() -> None:
    detector = tiny_detector().train()
    owner = Owner(DetectorTeacher(detector)).train()
    assert not any(module.training for module in detector.modules())
    assert not any(parameter.requires_grad for parameter in detector.parameters())
    assert list(owner.parameters()) == []
    assert owner.state_dict() == {}
    assert copy.deepcopy(owner).teacher is owner.teacher


def test_boxes_are_predicted_where_they_are_wanted() -> None:
    detector = confident(tiny_detector())
    teacher = DetectorTeacher(detector)
    plain = teacher.guide(TeacherBatch(IMAGES, SIZES))
    assert plain.boxes is None
    assert not plain.dense.predictions.logits.requires_grad
    wanted = teacher.guide(TeacherBatch(IMAGES, SIZES, frozenset({"opinions"})))
    assert wanted.boxes is not None
    found = detector.detect(wanted.dense, SIZES)
    for boxes, expected in zip(wanted.boxes, found, strict=True):
        assert len(boxes.boxes) == len(expected) > 0
        assert torch.equal(boxes.boxes, expected.boxes)
        assert torch.equal(boxes.probabilities.amax(dim=1), expected.scores)
        assert boxes.floor == detector.postprocessing.score_threshold


def test_it_moves_only_where_it_is_not() -> None:
    detector = tiny_detector()
    teacher, before = DetectorTeacher(detector), next(detector.parameters())
    teacher.move_to(torch.device("cpu"))
    assert next(detector.parameters()) is before
    teacher.move_to(torch.device("meta"))
    assert next(detector.parameters()).device.type == "meta"
