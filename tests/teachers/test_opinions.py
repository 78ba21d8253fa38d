from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detdistill.core.structures import TeacherBoxes
from detdistill.teachers import opinions as module
from detdistill.teachers.opinions import opinions
from support.box_strategies import boxes


def teacher_boxes(own: Tensor, probabilities: Tensor) -> TeacherBoxes:
    labels = probabilities.argmax(dim=1) if len(own) else torch.zeros(0, dtype=torch.int64)
    return TeacherBoxes(own, labels, probabilities)


def test_opinions_by_hand() -> None:
    """IoU 1/3 and 1 with the two boxes: .9 / 9 = .1 beside .05 for the first class, .8 for the second."""
    own = torch.tensor([[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]])
    teacher = teacher_boxes(own, torch.tensor([[0.9, 0.0], [0.05, 0.8]]))
    asked = torch.tensor([[1.0, 0.0, 3.0, 2.0], [7.0, 7.0, 9.0, 9.0]])
    found = opinions([teacher], asked, torch.tensor([0, 0]))
    torch.testing.assert_close(found.scores, torch.tensor([[0.1, 0.8], [0.0, 0.0]]))
    torch.testing.assert_close(found.boxes[0], own[1])
    assert found.boxes[1].isnan().all()
    flat = opinions([teacher], asked, torch.tensor([0, 0]), sharpness=1.0)
    torch.testing.assert_close(flat.scores[0], torch.tensor([0.3, 0.8]))


def test_a_box_is_matched_from_half_an_overlap_on() -> None:
    teacher = teacher_boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.tensor([[1.0]]))
    asked = torch.tensor([[0.0, 0.0, 4.0, 2.0], [0.0, 0.0, 4.0, 1.99]])
    found = opinions([teacher], asked, torch.tensor([0, 0]))
    assert found.boxes.isfinite().all(dim=1).tolist() == [True, False]


def test_the_matched_box_is_the_one_that_the_best_opinion_comes_from() -> None:
    """A sure box with IoU .8 (.9 * .64 = .576) beats an unsure one that fits (.5)."""
    own = torch.tensor([[0.0, 0.0, 8.0, 10.0], [0.0, 0.0, 10.0, 10.0]])
    teacher = teacher_boxes(own, torch.tensor([[0.9], [0.5]]))
    found = opinions([teacher], own[1:], torch.tensor([0]))
    assert found.scores.item() == pytest.approx(0.576)
    assert torch.equal(found.boxes, own[:1])


def iou(a: list[float], b: list[float]) -> float:
    width, height = (max(0.0, min(a[i + 2], b[i + 2]) - max(a[i], b[i])) for i in (0, 1))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / max(sum(areas) - width * height, 1e-9)


@given(boxes(), boxes(), st.integers(0, 2**16), st.sampled_from([0.5, 1.0, 2.0, 4.0]))
def test_opinions_are_those_of_a_loop(asked: Tensor, own: Tensor, seed: int, sharpness: float) -> None:
    probabilities = torch.rand(len(own), 3, generator=torch.Generator().manual_seed(seed), dtype=own.dtype)
    found = opinions([teacher_boxes(own, probabilities)], asked, torch.zeros(len(asked), dtype=torch.int64), sharpness)
    for box, opinion in zip(asked.tolist(), found.scores.tolist(), strict=True):
        for label in range(3):
            each = [
                p[label] * iou(box, b) ** sharpness for b, p in zip(own.tolist(), probabilities.tolist(), strict=True)
            ]
            assert opinion[label] == pytest.approx(max(each, default=0.0), abs=1e-3 if sharpness < 1 else 1e-4)


@given(boxes(), boxes(), st.integers(0, 2**16))
def test_boxes_of_one_class_each_are_no_special_case(asked: Tensor, own: Tensor, seed: int) -> None:
    """With a second known class, however small, all classes are looked at."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 3, (len(own),), generator=generator)
    single = torch.zeros(len(own), 3, dtype=own.dtype)
    single[torch.arange(len(own)), labels] = torch.rand(len(own), generator=generator, dtype=own.dtype)
    image = torch.zeros(len(asked), dtype=torch.int64)
    one = opinions([TeacherBoxes(own, labels, single)], asked, image)
    other = opinions([TeacherBoxes(own, labels, single + 1e-12)], asked, image)
    torch.testing.assert_close(one.scores, other.scores, rtol=1e-5, atol=1e-6)


def test_images_and_pieces_do_not_change_opinions(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)

    def some(count: int) -> Tensor:
        corner = torch.rand(count, 2, generator=generator) * 20
        return torch.cat([corner, corner + 1 + torch.rand(count, 2, generator=generator) * 20], dim=1)

    found = [teacher_boxes(some(count), torch.rand(count, 4, generator=generator)) for count in (5, 0, 3)]
    asked, image = some(9), torch.tensor([0, 0, 0, 1, 1, 2, 2, 2, 2])
    whole = opinions(found, asked, image)
    apart = [
        opinions([found[n]], asked[image == n], torch.zeros(int((image == n).sum()), dtype=torch.int64))
        for n in range(3)
    ]
    torch.testing.assert_close(whole.scores, torch.cat([part.scores for part in apart]), rtol=0, atol=0)
    torch.testing.assert_close(whole.boxes, torch.cat([part.boxes for part in apart]), rtol=0, atol=0, equal_nan=True)
    monkeypatch.setattr(module, "_SCORES_AT_ONCE", 21)
    torch.testing.assert_close(opinions(found, asked, image).scores, whole.scores, rtol=0, atol=0)


def test_a_teacher_without_boxes_has_no_opinion() -> None:
    found = opinions(
        [teacher_boxes(torch.zeros(0, 4), torch.zeros(0, 2))], torch.rand(3, 4), torch.zeros(3, dtype=torch.int64)
    )
    assert found.scores.tolist() == [[0.0, 0.0]] * 3
    assert all(math.isnan(value) for value in found.boxes.flatten().tolist())


def test_nothing_is_asked() -> None:
    teacher = teacher_boxes(torch.rand(2, 4), torch.rand(2, 3))
    found = opinions([teacher, teacher], torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert found.scores.shape == (0, 3)
    assert found.boxes.shape == (0, 4)
