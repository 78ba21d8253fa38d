from __future__ import annotations

from math import ceil

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.image_options import ImageOptions
from detdistill.core.output import Output
from detdistill.distill.memory import TeacherMemory, memory_note
from detdistill.teachers.teacher import Guidance, TeacherBatch
from support.tiny_detector import tiny_detector

SIDE = 64
FIXED = ImageOptions(flip=0.0)


class Teacher:
    """Tells what it is asked."""

    detector = tiny_detector().eval()

    def __init__(self) -> None:
        self.asked: list[int] = []

    @torch.no_grad()
    def __call__(self, batch: TeacherBatch) -> Guidance:
        self.asked.append(len(batch.images))
        return Guidance(self.detector(self.detector.input.normalization(batch.images, batch.sizes)))


def remembered(memory: TeacherMemory, images: Tensor, sizes: Tensor, teacher: Teacher) -> Output:
    return memory.guidance(TeacherBatch(images, sizes), teacher).dense


def predicted(images: Tensor, sizes: Tensor) -> Output:
    return Teacher()(TeacherBatch(images, sizes)).dense


def pictures(number: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (number, 3, SIDE, SIDE), dtype=torch.uint8, generator=generator)
    return images, torch.full((number, 2), SIDE)


def assert_same(output: Output, expected: Output) -> None:
    torch.testing.assert_close(output.predictions.class_logits, expected.predictions.class_logits)
    torch.testing.assert_close(output.predictions.regression, expected.predictions.regression)
    torch.testing.assert_close(output.features.maps, expected.features.maps)
    assert output.predictions.grid.sizes == expected.predictions.grid.sizes


@settings(max_examples=20)
@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=4), min_size=1, max_size=5))
def test_it_answers_as_the_teacher_and_asks_for_nothing_twice(batches: list[list[int]]) -> None:
    images, sizes = pictures(6)
    teacher, memory = Teacher(), TeacherMemory(64)
    seen: set[int] = set()
    for batch in batches:
        teacher.asked.clear()
        output = remembered(memory, images[batch], sizes[batch], teacher)
        assert sum(teacher.asked) == sum(number not in seen for number in batch)
        seen |= set(batch)
        assert_same(output, predicted(images[batch], sizes[batch]))


def test_an_image_of_another_size_on_the_same_pixels_is_another() -> None:
    images, sizes = pictures(1)
    teacher, memory = Teacher(), TeacherMemory(64)
    for size in (sizes, sizes - 8, sizes):
        remembered(memory, images, size, teacher)
    assert teacher.asked == [1, 1]


def test_an_image_on_another_canvas_is_another() -> None:
    images = torch.zeros(1, 3, 64, 128, dtype=torch.uint8)
    teacher, memory = Teacher(), TeacherMemory(64)
    for each in (images, images.mT):  # the same bytes
        remembered(memory, each, torch.tensor([[64, 64]]), teacher)
    assert teacher.asked == [1, 1]


def test_an_image_that_is_twice_in_a_batch_takes_room_once() -> None:
    images = torch.cat([torch.zeros(2, 3, 512, 512), torch.ones(1, 3, 512, 512)]).to(torch.uint8)
    sizes = torch.full((3, 2), 512)
    output = predicted(images[:1], sizes[:1])
    size = sum(
        tensor.nbytes
        for tensor in (output.predictions.class_logits, output.predictions.regression, *output.features.maps)
    )
    room = ceil(2 * size / 2**20)
    assert 3 * size > room * 2**20, "there is room for two"
    teacher, memory = Teacher(), TeacherMemory(room)
    for _ in range(2):
        remembered(memory, images, sizes, teacher)
    assert teacher.asked == [3]


def test_without_room_it_asks_each_time() -> None:
    images, sizes = pictures(3)
    teacher, memory = Teacher(), TeacherMemory(0)
    for _ in range(2):
        assert_same(remembered(memory, images, sizes, teacher), predicted(images, sizes))
    assert teacher.asked == [3, 3]


def test_what_it_keeps_is_not_what_it_gave() -> None:
    images, sizes = pictures(2)
    teacher, memory = Teacher(), TeacherMemory(64)
    given_first = remembered(memory, images, sizes, teacher)
    given_first.predictions.class_logits.zero_()
    assert_same(remembered(memory, images, sizes, teacher), predicted(images, sizes))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (FIXED, "100 images need about"),
        (ImageOptions(flip=0.5), "100 images, each as it is and mirrored, need about"),
        (ImageOptions(scale_jitter=(0.5, 1.0)), "of no use here"),
        (ImageOptions(photometric=0.5), "of no use here"),
    ],
)
def test_the_note_tells_how_far_it_reaches(options: ImageOptions, said: str) -> None:
    assert f"teacher memory: {said}" in memory_note(64, Guidance(predicted(*pictures(2))), 2, 100, options)


def test_the_note_counts_right() -> None:
    images, sizes = pictures(4)
    output = predicted(images, sizes)
    tensors = (output.predictions.class_logits, output.predictions.regression, *output.features.maps)
    size = sum(tensor.nbytes for tensor in tensors) / 4
    needed = ceil(1000 * size / 2**20)
    assert f"1000 images need about {needed} MiB" in memory_note(1, Guidance(output), 4, 1000, FIXED)
