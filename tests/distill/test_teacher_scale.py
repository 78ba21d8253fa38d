from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.structures import TeacherBoxes
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.distill.distiller import Distiller
from detdistill.distill.memory import TeacherMemory
from detdistill.distill.terms import TERMS
from detdistill.distill.weighting import Weight
from detdistill.teachers.callable_teacher import CallableTeacher
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.joint_teacher import JointTeacher, reads_images
from detdistill.teachers.teacher import Guidance, TeacherBatch
from support.other_scale import Rescaled, beside
from support.pairs import batch, confident
from support.tiny_detector import tiny_detector

CLASSES = ("cell", "platelet", "other")


def sized(detector: DenseDetector, size: ImageSize) -> DenseDetector:
    detector.input = replace(detector.input, size=size)
    return detector


def learner(terms: dict[str, dict[str, Any]], ratio: Fraction | float, head: Any = "gfl", **changes: Any) -> Distiller:
    student = sized(tiny_detector(head), ImageSize(96, 96))
    built = {name: TERMS[name](**options) for name, options in terms.items()}
    return Distiller(student, tiny_detector(head, seed=1, **changes), built, teacher_ratio=ratio)


def test_the_teacher_reads_its_own_images() -> None:
    images, targets = batch([0], [1])
    detector = tiny_detector(seed=1)
    distiller = learner({"hint": {}}, 2)
    shown = beside(images, targets, 2)
    noise = torch.randint(0, 256, (2, 3, 256, 256), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert shown.teacher_images is not None
    shown = replace(shown, teacher_images=replace(shown.teacher_images, images=noise))
    with torch.no_grad():
        expected = detector(detector.input.normalization(noise, 2 * targets.sizes))
    found = distiller.guide(images, shown).dense
    assert torch.equal(found.predictions.class_logits, expected.predictions.class_logits)
    assert [stride for stride, _ in found.predictions.grid.strides] == [4, 8, 16, 32, 64]


def test_notes_say_ratio_cost_and_levels() -> None:
    notes = learner({"hint": {}}, 2).notes
    (note,) = [note for note in notes if "distill.teacher_images" in note]
    for words in ("2 times", "short_side 192, long_side 192", "4 times"):
        assert words in note
    assert (
        "levels: strides 8, 16, 32, 64 of the student are compared with strides 16, 32, 64, 128 of the teacher" in notes
    )
    assert "levels that only the teacher has: stride 8, left out" in notes


def test_the_teachers_own_size_is_compared_with_what_it_gets() -> None:
    teacher = sized(tiny_detector(seed=1), ImageSize(192, 192))
    student = sized(tiny_detector(), ImageSize(96, 96))
    for ratio, differs in ((2, False), (1, True)):
        notes = Distiller(student, teacher, {"hint": TERMS["hint"]()}, teacher_ratio=ratio).notes
        assert any(note.startswith("image size: the teacher was made for sides of 192") for note in notes) is differs


@pytest.mark.parametrize("terms", [{"prediction_guided": {}}, {"rank_mimicking": {}}])
def test_no_common_level_lists_sizes_that_work(terms: dict[str, dict[str, Any]]) -> None:
    """Also for terms that could go by opinion: the size must not change what a term compares."""
    with pytest.raises(DetdistillError) as refused:
        learner(terms, 1.5)
    for words in ("distill.teacher_images", "short_side 192, long_side 192 (ratio 2)", "short_side 96, long_side 96"):
        assert words in str(refused.value)


def test_sizes_that_work_do_work() -> None:
    """Every ratio of two strides that is listed brings at least one pair of levels together."""
    for ratio in (0.5, 1, 2, 4):
        assert learner({"prediction_guided": {}}, ratio).notes


def test_opinions_need_no_common_level() -> None:
    images, targets = batch([0, 1, 2], [2, 1])
    student, detector = tiny_detector(), confident(tiny_detector(seed=1))
    term = {"soft_label": TERMS["soft_label"](source="opinion")}
    plain = Distiller(student, detector, term).eval()
    teacher = Rescaled(detector, images, targets, 1.5)
    other = Distiller(student, teacher, {"soft_label": TERMS["soft_label"](source="opinion")}, teacher_ratio=1.5).eval()
    expected = plain.compare(images, targets).terms["soft_label"]
    found = other.compare(images, beside(images, targets, 1.5)).terms["soft_label"]
    assert expected > 0
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=0)


class WithoutCells(Rescaled):
    """It offers a grid and has none on this canvas, as ONNX files of one size do."""

    def guide(self, batch: TeacherBatch) -> Guidance:
        return replace(super().guide(batch), output=None)


def test_a_teacher_without_cells_on_a_canvas_teaches_by_opinion() -> None:
    images, targets = batch([0, 1, 2], [2, 1])
    teacher = WithoutCells(confident(tiny_detector(seed=1)), images, targets, 1.5)
    distiller = Distiller(tiny_detector(), teacher, {"soft_label": TERMS["soft_label"]()}, teacher_ratio=1.5)
    compared = distiller.compare(images, beside(images, targets, 1.5))
    assert compared.views[0].by_opinion
    assert compared.terms["soft_label"] > 0


def test_distributions_of_other_strides_are_refused() -> None:
    assert learner({"localization": {}}, 2).notes
    with pytest.raises(DetdistillError, match=r"localization.*units of the stride.*distill\.teacher_images"):
        learner({"localization": {}}, 1.2)


def test_cross_head_wants_the_teachers_levels_at_a_whole_ratio() -> None:
    with pytest.raises(DetdistillError, match=r"cross_head.*distill\.teacher_images 2x.*detector\.strides"):
        learner({"cross_head": {"position": 1}}, 2)
    with pytest.raises(DetdistillError, match=r"cross_head.*distill\.teacher_images.*whole number"):
        learner({"cross_head": {"position": 1}}, 0.5, strides=(4, 8, 16))


def test_missing_and_small_images_are_refused() -> None:
    distiller = learner({"hint": {}}, 2)
    images, targets = batch([0], [1])
    with pytest.raises(DetdistillError, match=r"teacher_images is None.*256x256"):
        distiller.guide(images, targets)
    with pytest.raises(DetdistillError, match=r"teacher_images has 2 images.*128x128.*256x256"):
        distiller.guide(images, beside(images, targets, 1))
    with pytest.raises(DetdistillError, match=r"teacher_images has 1 images"):
        distiller.guide(images, beside(images[:1], targets.of_images(0, 1), 2))


def test_the_memory_knows_images_by_what_the_teacher_sees() -> None:
    images, targets = batch([0, 1, 2], [2, 1])
    teacher = Rescaled(confident(tiny_detector(seed=1)), images, targets, 2)
    terms = {"hint": TERMS["hint"](), "soft_label": TERMS["soft_label"](source="opinion")}
    weights = {name: Weight(1.0) for name in terms}
    distiller = Distiller(
        tiny_detector(), teacher, terms, weights=weights, memory=TeacherMemory(64), teacher_ratio=2
    ).eval()
    shown = beside(images, targets, 2)
    assert shown.teacher_images is not None
    shown.teacher_images.images[0] += 1
    teacher.asked.clear()
    first, second = distiller(images, shown), distiller(images * 0, shown)
    assert teacher.asked == [(2, 3, 256, 256)]
    without = distiller.compare(images, shown)
    for name in terms:
        assert first[name] == without.terms[name]
        assert second[name] != first[name], "the student sees other images"
    shown.teacher_images.images[1] += 1
    distiller(images, shown)
    assert teacher.asked[2:] == [(1, 3, 256, 256)]


class Stored(CallableTeacher):
    def __init__(self) -> None:
        super().__init__(_nothing, "stored")
        self.stored: Any = object()


def _nothing(images: torch.Tensor, sizes: torch.Tensor) -> list[dict[str, Any]]:  # noqa: ARG001
    return [{"boxes": torch.zeros(0, 4), "scores": [], "labels": []} for _ in images]


def _seen(images: torch.Tensor, sizes: torch.Tensor) -> list[dict[str, Any]]:
    """A box as large as each image, which is twice as large as the student's."""
    assert images.shape[2:] in ((256, 256), (512, 512))
    return [{"boxes": [[0, 0, width, height]], "scores": [0.9], "labels": [0]} for height, width in sizes.tolist()]


_nothing.classes = _seen.classes = CLASSES  # type: ignore[attr-defined]


def test_stored_boxes_beside_a_teacher_that_reads_images_stay_where_they_are() -> None:
    teacher = JointTeacher([Stored(), CallableTeacher(_seen, "seen")])
    assert reads_images(teacher)
    assert not reads_images(JointTeacher([Stored(), Stored()]))
    assert reads_images(DetectorTeacher(tiny_detector()))
    term = TERMS["soft_label"](source="opinion")
    distiller = Distiller(tiny_detector(), teacher, {"soft_label": term}, teacher_ratio=2)
    images, targets = batch([0], [1])
    stored = TeacherBoxes(torch.tensor([[10.0, 10, 30, 40]]), torch.tensor([1]), torch.tensor([[0.0, 0.5, 0]]))
    found = distiller.guide(images, replace(beside(images, targets, 2), stored=(stored, stored)))
    (height, width) = targets.sizes[1].tolist()
    assert found.set_of_boxes[1].boxes.tolist() == [[0, 0, width, height], [10, 10, 30, 40]]


def test_the_teachers_input_is_the_students_at_the_ratio() -> None:
    scale = learner({"hint": {}}, Fraction(2))._scale
    spec = scale.input(InputSpec(size=ImageSize(96, 96, canvas=(96, 128)), canvas=(96, 128)))
    assert spec == InputSpec(size=ImageSize(192, 192, canvas=(192, 256)), canvas=(192, 256))
