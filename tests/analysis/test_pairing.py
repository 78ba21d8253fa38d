from __future__ import annotations

import pytest
import torch

from detdistill.analysis.pairing import compare, reordered
from detdistill.core.structures import Targets, TeacherBoxes
from detdistill.distill.class_map import ClassMap
from detdistill.teachers.teacher import Guidance
from support.pairs import confident
from support.tiny_detector import tiny_detector

CLASSES = ("cat", "dog")


@pytest.mark.parametrize("side", ["dense", "opinion"])
@pytest.mark.parametrize("head", ["retinanet", "fcos", "gflv2"])
def test_within_objects_only_the_order_changes(head: str, side: str) -> None:
    """Each object keeps its scores; its best one moves to the candidate that the teacher ranks first."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 4 - 2
    targets = Targets.from_images(
        [torch.tensor([[0.0, 0.0, 40.0, 60.0], [30.0, 20.0, 64.0, 64.0]]), torch.tensor([[8.0, 8.0, 50.0, 40.0]])],
        [torch.tensor([0, 1]), torch.tensor([1])],
        torch.tensor([[64, 64], [64, 64]]),
    )
    student, teacher = (confident(tiny_detector(head, CLASSES, seed=seed)) for seed in (0, 1))  # type: ignore[arg-type]
    with torch.no_grad():
        own, other = student(images), teacher(images)
        found = tuple(TeacherBoxes.from_detections(each, 2, 0.05) for each in teacher.detect(other, targets.sizes))
        guidance = Guidance(other, found)
        compared = compare(student, teacher.offers, ClassMap(CLASSES, CLASSES, {}), own, guidance, targets)
        ranked = getattr(compared, side)
        pair, before = ranked.view, ranked.candidates
        changed = reordered(pair.student, before)
    image, prior = before.places
    after = changed.predictions.log_odds((image, prior, targets.labels[before.objects]))
    moved = 0
    for number in torch.unique(before.objects):
        chosen = before.objects == number
        torch.testing.assert_close(after[chosen].sort().values, before.own[chosen].sort().values)
        assert int(after[chosen].argmax()) == int(before.other[chosen].argmax())
        moved += int((after[chosen] != before.own[chosen]).sum())
    assert moved > 0
    rest = torch.ones(pair.student.predictions.class_logits.shape[:2], dtype=torch.bool)
    rest[image, prior] = False
    assert torch.equal(changed.predictions.class_logits[rest], pair.student.predictions.class_logits[rest])
    assert torch.equal(changed.predictions.regression, pair.student.predictions.regression)
