from __future__ import annotations

import pytest
import torch
from torch import nn

from detdistill.core.errors import DetdistillError
from detdistill.distill.inheritance import inherit
from support.tiny_detector import tiny_detector


def equal_tensors(first: nn.Module, second: nn.Module) -> set[str]:
    other = second.state_dict()
    return {
        name
        for name, value in first.state_dict().items()
        if other[name].shape == value.shape and value.dim() > 1 and torch.equal(other[name], value)
    }


def test_pyramid_and_head_of_a_teacher_of_the_same_channels() -> None:
    student, teacher = tiny_detector(), tiny_detector(seed=1, backbone_width=0.25)
    kept = {name: value.clone() for name, value in teacher.state_dict().items()}
    said = inherit(student, teacher, ("pyramid", "head"))
    assert said.startswith("copied from the teacher: ")
    assert "tensors of the pyramid, " in said
    copied = equal_tensors(student, teacher)
    assert "head.class_predictor.weight" in copied
    assert "pyramid.fpn.inner_blocks.0.0.weight" not in copied  # the backbones differ
    assert "pyramid.fpn.layer_blocks.0.0.weight" in copied
    assert not any(name.startswith("backbone.") for name in copied)
    assert all(torch.equal(kept[name], value) for name, value in teacher.state_dict().items())


def test_the_class_layer_needs_the_same_classes() -> None:
    student, teacher = tiny_detector(classes=("a", "b")), tiny_detector(classes=("b", "a"), seed=1)
    inherit(student, teacher, ("head",))
    copied = equal_tensors(student, teacher)
    assert "head.class_predictor.weight" not in copied
    assert any(name.startswith("head.class_tower.") for name in copied)


def test_a_teacher_of_which_nothing_fits() -> None:
    student, teacher = tiny_detector(), tiny_detector(seed=1, channels=24)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    with pytest.raises(
        DetdistillError, match=r"nothing of the teacher's pyramid fits .*detector\.channels.*leave pyramid"
    ):
        inherit(student, teacher, ("pyramid",))
    assert all(torch.equal(before[name], value) for name, value in student.state_dict().items())
