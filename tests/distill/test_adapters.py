from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from detdistill.core.output import Output
from detdistill.distill.adapters import Adapters
from detdistill.distill.term import Pair
from detdistill.teachers.detector_teacher import DetectorTeacher
from support.tiny_detector import tiny_detector


def pair(own: int, other: int) -> Pair:
    student, teacher = tiny_detector(channels=own), tiny_detector(channels=other, seed=1)
    images = torch.zeros(1, 3, 128, 128)
    with torch.no_grad():
        return Pair(student, DetectorTeacher(teacher), student(images), teacher(images))


def with_maps(output: Output, maps: tuple[Tensor, ...]) -> Output:
    return replace(output, features=replace(output.features, maps=maps))


def test_nothing_is_convolved_where_the_channels_agree() -> None:
    example = pair(16, 16)
    adapters = Adapters()
    assert adapters.bind(example) == []
    assert list(adapters.parameters()) == []
    adapted = adapters(example.student_output.features.maps)
    assert all(a is b for a, b in zip(adapted, example.student_output.features.maps, strict=True))


@pytest.mark.parametrize(("own", "other", "kernel_size", "always"), [(16, 24, 1, False), (16, 16, 3, True)])
def test_a_convolution_per_level(own: int, other: int, kernel_size: int, always: bool) -> None:
    example = pair(own, other)
    adapters = Adapters(kernel_size, always=always)
    (note,) = adapters.bind(example)
    assert note == (
        f"a {kernel_size}x{kernel_size} convolution brings the student's features from {own} to {other} channels at "
        "strides 8, 16, 32, 64, 128"
    )
    adapted = adapters(example.student_output.features.maps)
    assert [level.shape for level in adapted] == [level.shape for level in example.teacher_output.features.maps]
    assert sum(parameter.numel() for parameter in adapters.parameters()) == 5 * other * (own * kernel_size**2 + 1)


def test_only_levels_that_differ() -> None:
    example = pair(16, 24)
    others = example.teacher_output.features.maps[1:]
    features = (example.student_output.features.maps[0], *others)
    adapters = Adapters()
    (note,) = adapters.bind(replace(example, teacher_output=with_maps(example.teacher_output, features)))
    assert note.endswith("at strides 16, 32, 64, 128")


def test_binding_again_starts_anew() -> None:
    adapters = Adapters()
    adapters.bind(pair(16, 24))
    adapters.bind(pair(16, 16))
    assert len(adapters.levels) == 5
    assert list(adapters.parameters()) == []


@pytest.mark.parametrize("size", [0.01, 1.0, 40.0])
def test_convolutions_start_at_the_scale_of_the_teacher(size: float) -> None:
    example = pair(16, 24)
    features = tuple(size * torch.randn_like(level) for level in example.teacher_output.features.maps)
    adapters = Adapters()
    adapters.bind(replace(example, teacher_output=with_maps(example.teacher_output, features)))
    own = [torch.randn_like(level) for level in example.student_output.features.maps]
    for adapted, level in zip(adapters(own), features, strict=True):
        assert 0.2 < adapted.std() / level.std() < 2


def test_a_map_that_is_the_same_everywhere_has_no_scale() -> None:
    example = pair(16, 24)
    features = tuple(torch.full_like(level, 3.0) for level in example.teacher_output.features.maps)
    adapters = Adapters()
    adapters.bind(replace(example, teacher_output=with_maps(example.teacher_output, features)))
    assert all(buffer == 1 for buffer in adapters.buffers())
