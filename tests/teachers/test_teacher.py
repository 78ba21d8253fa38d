from __future__ import annotations

import pytest
import torch

from detdistill.core.structures import TeacherBoxes
from detdistill.teachers.opinions import opinions
from detdistill.teachers.teacher import Guidance, TeacherBatch
from support.term_cases import grid, output


def teacher_boxes(count: int) -> TeacherBoxes:
    return TeacherBoxes(torch.rand(count, 4), torch.zeros(count, dtype=torch.int64), torch.rand(count, 2))


def guidance(images: int) -> Guidance:
    layout = grid((2, 2))
    dense = output(layout, [torch.arange(4.0 * images).view(images, 1, 2, 2)], torch.randn(images, 4, 2))
    return Guidance(dense, tuple(teacher_boxes(number) for number in range(images)))


def test_guidance_in_parts_is_put_together_again() -> None:
    whole = guidance(3)
    again = Guidance.joined([whole.of_image(number) for number in range(3)])
    assert torch.equal(again.dense.features.maps[0], whole.dense.features.maps[0])
    assert torch.equal(again.dense.predictions.logits, whole.dense.predictions.logits)
    assert again.boxes is not None
    assert whole.boxes is not None
    assert all(a is b for a, b in zip(again.boxes, whole.boxes, strict=True))
    assert again.nbytes == whole.nbytes == sum(whole.of_image(number).nbytes for number in range(3)) > 0


def test_opinions_are_of_each_box_in_its_image() -> None:
    whole = guidance(3)
    assert whole.boxes is not None
    asked, image = torch.rand(4, 4), torch.tensor([0, 1, 1, 2])
    found, expected = whole.opinions(asked, image, 3.0), opinions(whole.boxes, asked, image, 3.0)
    torch.testing.assert_close(found.scores, expected.scores)


def test_what_a_teacher_does_not_offer_is_an_error() -> None:
    with pytest.raises(ValueError, match="no output"):
        _ = Guidance().dense
    with pytest.raises(ValueError, match="no boxes"):
        Guidance().opinions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def test_a_part_of_a_batch_has_all_that_the_batch_has() -> None:
    boxes = teacher_boxes(1), teacher_boxes(1), teacher_boxes(1)
    images, sizes = torch.arange(3).view(3, 1, 1, 1), torch.tensor([[1, 1], [2, 2], [3, 3]])
    part = TeacherBatch(images, sizes, frozenset({"boxes"}), boxes).of_images([2, 0])
    assert part.images.flatten().tolist() == [2, 0]
    assert part.sizes[:, 0].tolist() == [3, 1]
    assert part.wanted == {"boxes"}
    assert part.stored == (boxes[2], boxes[0])
