from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from detdistill.core.instance_masks import InstanceMasks
from detdistill.core.structures import ReduceSum, Targets, TeacherBoxes, single_process
from detdistill.detectors.base import Detector
from detdistill.detectors.dense.architecture import TorchvisionArchitecture
from detdistill.detectors.dense.choices import HeadName
from detdistill.detectors.dense.torchvision_detector import TorchvisionDetector
from detdistill.distill.class_map import ClassMap
from detdistill.distill.pseudo_labels import PREFIX, PseudoLabels
from detdistill.teachers.teacher import Guidance
from support.pairs import BOXES, SIDE, batch, confident, distiller
from support.stored_boxes import boxes_of
from support.tiny_detector import tiny_detector

NAMES = ("green", "red", "blue")
SAME = ClassMap(NAMES, NAMES)


def unlabelled(targets: Targets, *labelled: bool) -> Targets:
    return replace(targets, labelled=torch.tensor(labelled))


def found(targets: Targets, boxes: TeacherBoxes, pseudo_labels: PseudoLabels, classes: ClassMap = SAME) -> Targets:
    """The targets of a batch in whose every image the teacher finds the same."""
    return pseudo_labels.targets(targets, Guidance(boxes=(boxes,) * targets.num_images), classes)


def test_a_box_is_an_object_from_the_threshold_of_its_class_on_and_ignored_below() -> None:
    _, targets = batch([0], [], padded=False)
    boxes = boxes_of(
        (1, 2, 30, 40, 0, 0.5),
        (5, 5, 50, 50, 1, 0.5),
        (9, 9, 20, 20, 2, 0.75),
        (3, 3, 33, 33, 0, 0.0625),
        (4, 4, 44, 44, 0, 0.03125),
    )
    made = found(unlabelled(targets, True, False), boxes, PseudoLabels((0.5, 0.75, 0.75)))
    assert made.boxes.tolist() == [list(BOXES[0]), [1, 2, 30, 40], [9, 9, 20, 20]]
    assert made.labels.tolist() == [0, 0, 2]
    assert made.image.tolist() == [0, 1, 1]
    assert made.ignored.tolist() == [[5, 5, 50, 50], [3, 3, 33, 33]], "the last one is below .05: background"
    assert made.ignored_image.tolist() == [1, 1]


def test_below_a_higher_floor_nothing_is_known_to_be_there() -> None:
    _, targets = batch([], padded=False)
    boxes = boxes_of((1, 2, 30, 40, 0, 0.25), floor=0.3)
    made = found(unlabelled(targets, False), boxes, PseudoLabels((0.5,) * 3))
    assert (len(made.boxes), len(made.ignored)) == (0, 0)


def test_annotated_images_stay_as_they_are_and_the_order_is_that_of_the_images() -> None:
    _, targets = batch([], [1], padded=False)
    targets = replace(targets, ignored=torch.tensor([[0.0, 0, 9, 9]]), ignored_image=torch.tensor([1]))
    boxes = boxes_of((1, 2, 30, 40, 0, 0.5), (1, 2, 30, 40, 1, 0.25))
    made = found(unlabelled(targets, False, True), boxes, PseudoLabels((0.5,) * 3))
    assert (made.image.tolist(), made.labels.tolist()) == ([0, 1], [0, 1])
    assert made.ignored_image.tolist() == [0, 1]
    assert found(targets, boxes, PseudoLabels((0.5,) * 3)) is targets, "all images are annotated"


def test_boxes_are_clipped_to_their_image_and_slivers_left_out() -> None:
    _, targets = batch([0])  # SIDE high, 96 wide
    boxes = boxes_of((-5, 10, 200, 300, 0, 0.9), (95.5, 0, 120, 50, 0, 0.9))
    made = found(unlabelled(targets, False), boxes, PseudoLabels((0.5,) * 3))
    assert made.boxes[1:].tolist() == [[0, 10, 96, SIDE]] or made.boxes.tolist()[-1] == [0, 10, 96, SIDE]
    assert len(made.ignored) == 0


def test_classes_are_matched_by_name_and_those_of_the_teacher_alone_do_not_count() -> None:
    _, targets = batch([], padded=False)
    boxes = boxes_of((1, 2, 30, 40, 0, 0.5), (5, 5, 50, 50, 1, 0.5), (9, 9, 20, 20, 2, 0.5))
    classes = ClassMap(("red", "violet"), NAMES, {"blue": "violet"})
    made = found(unlabelled(targets, False), boxes, PseudoLabels((0.5, 0.5)), classes)
    assert made.labels.tolist() == [0, 1]
    assert made.boxes.tolist() == [[5, 5, 50, 50], [9, 9, 20, 20]]
    assert len(made.ignored) == 0


def test_thresholds_must_be_known() -> None:
    _, targets = batch([], padded=False)
    with pytest.raises(ValueError, match="thresholds"):
        found(unlabelled(targets, False), boxes_of(), PseudoLabels())


@pytest.fixture(scope="module", params=[*get_args(HeadName), "fcos_resnet50_fpn", "retinanet_resnet50_fpn"])
def student(request: pytest.FixtureRequest) -> Detector:
    if request.param in get_args(HeadName):
        return confident(tiny_detector(request.param, NAMES))
    return TorchvisionDetector.from_architecture(TorchvisionArchitecture(request.param), NAMES).eval()


def loss_of(
    student: Detector, first: int, last: int, labelled: Sequence[bool] | None, weight: float, reduce_sum: ReduceSum
) -> dict[str, Tensor]:
    """The loss of some images of one batch."""
    images, targets = batch([0, 1], [2], [1, 0, 2], padded=False)
    part = replace(targets.of_images(first, last), labelled=None if labelled is None else torch.tensor(labelled))
    output = student(student.input.normalization(images[first:last], part.sizes))
    return PseudoLabels((0.5,) * 3, weight).loss(student, output, part, student.match(output, part), reduce_sum)


@pytest.mark.parametrize("weight", [0.0, 0.25])
def test_the_loss_of_each_half_is_that_of_a_batch_of_its_own(student: Detector, weight: float) -> None:
    with torch.no_grad():
        both = loss_of(student, 0, 3, (True, False, False), weight, single_process)
        expected = loss_of(student, 0, 1, None, weight, single_process)
        if weight:
            others = loss_of(student, 1, 3, None, weight, single_process)
            expected |= {f"{PREFIX}{name}": weight * value for name, value in others.items()}
    assert both.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(both[name], value, rtol=1e-4, atol=1e-6)


def test_two_processes_of_which_one_has_all_annotated_images_add_up(student: Detector) -> None:
    shares: tuple[tuple[int, int, Sequence[bool]], ...] = ((0, 1, (True,)), (1, 3, (False, False)))
    asked: list[list[Tensor]] = [[], []]

    def counting(counts: list[Tensor]) -> ReduceSum:
        def reduce_sum(value: Tensor) -> Tensor:
            counts.append(value)
            return value

        return reduce_sum

    def answering(totals: Iterator[Tensor]) -> ReduceSum:
        return lambda _: next(totals)

    with torch.no_grad():
        for share, counts in zip(shares, asked, strict=True):
            loss_of(student, *share, 0.25, counting(counts))
        totals = [one + other for one, other in zip(*asked, strict=True)]
        parts = [loss_of(student, *share, 0.25, answering(iter(totals))) for share in shares]
        whole = loss_of(student, 0, 3, (True, False, False), 0.25, single_process)
    for name, value in whole.items():
        torch.testing.assert_close(parts[0][name] + parts[1][name], value, rtol=1e-4, atol=1e-6)


def test_terms_learn_the_objects_of_unlabelled_images() -> None:
    """Also where the detection loss does not; and a batch without annotated images is a batch."""
    student, teacher = (confident(tiny_detector("retinanet", NAMES, seed=seed)) for seed in (0, 1))
    options = {"rank_mimicking": {}, "soft_label": {"source": "opinion"}}
    learner = distiller(student, teacher, options, pseudo_labels=PseudoLabels((0.3,) * 3, 0.0))
    images, targets = batch([0, 1], [], padded=False)
    alone = learner.compare(images, targets)
    compared = learner.compare(images, unlabelled(targets, True, False))
    assert (compared.targets.image == 1).any(), "the teacher finds something"
    assert compared.detection.keys() == alone.detection.keys()
    for name in options:
        assert compared.terms[name] != alone.terms[name]
    without = learner.compare(images, unlabelled(targets, False, False))
    assert all(value == 0 for value in without.detection.values())
    assert all(value.isfinite() and value > 0 for value in without.terms.values())


def test_objects_that_are_found_have_no_masks() -> None:
    _, targets = batch([0], [], padded=False)
    masks = InstanceMasks.of_bitmaps(torch.ones(len(targets.boxes), SIDE, SIDE))
    targets = replace(unlabelled(targets, True, False), masks=masks)
    labels = found(targets, boxes_of((1, 2, 30, 40, 0, 0.9)), PseudoLabels((0.5, 0.5, 0.5), 1.0))
    assert labels.masks is not None
    assert len(labels.masks) == len(labels.boxes) == len(targets.boxes) + 1
    assert labels.masks.present.tolist() == [image == 0 for image in labels.image.tolist()]
