from __future__ import annotations

import pytest
import torch

from detdistill.teachers.teacher import Guidance, TeacherBatch
from detdistill.teachers.teacher_boxes import TeacherBoxes
from support.term_cases import grid, output


def guidance(images: int) -> Guidance:
    layout = grid((2, 2))
    dense = output(layout, [torch.arange(4.0 * images).view(images, 1, 2, 2)], torch.randn(images, 4, 2))
    boxes = tuple(TeacherBoxes(torch.rand(number, 4), torch.rand(number, 2)) for number in range(images))
    return Guidance(dense, boxes)


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
    asked = torch.rand(4, 4)
    found = whole.opinions(asked, torch.tensor([0, 1, 1, 2]))
    expected = [
        whole.boxes[0].opinions(asked[:1]),
        whole.boxes[1].opinions(asked[1:3]),
        whole.boxes[2].opinions(asked[3:]),
    ]
    torch.testing.assert_close(found, torch.cat(expected))


def test_what_a_teacher_does_not_offer_is_an_error() -> None:
    with pytest.raises(ValueError, match="no output"):
        _ = Guidance().dense
    with pytest.raises(ValueError, match="no boxes"):
        Guidance().opinions(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))


def test_a_part_of_a_batch_has_all_that_the_batch_has() -> None:
    boxes = tuple(TeacherBoxes(torch.rand(1, 4), torch.rand(1, 2)) for _ in range(3))
    images, sizes = torch.arange(3).view(3, 1, 1, 1), torch.tensor([[1, 1], [2, 2], [3, 3]])
    part = TeacherBatch(images, sizes, frozenset({"boxes"}), ("a", "b", "c"), boxes).of_images([2, 0])
    assert part.images.flatten().tolist() == [2, 0]
    assert part.sizes[:, 0].tolist() == [3, 1]
    assert part.wanted == {"boxes"}
    assert part.image_names == ("c", "a")
    assert part.boxes == (boxes[2], boxes[0])
