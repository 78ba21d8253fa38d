from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.detectors.dense.detector import DenseDetector
from detdistill.distill.distiller import Distiller
from detdistill.distill.opinion_correspondence import OpinionCorrespondence
from detdistill.distill.terms.prediction_guided import PredictionGuided
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.weighting import Weight
from detdistill.teachers.loading import load_teacher
from detdistill.teachers.onnx.importing_onnx import import_onnx
from detdistill.teachers.onnx.onnx_card import CARD, MODEL
from detdistill.teachers.onnx.onnx_settings import CardSettings
from detdistill.teachers.onnx.onnx_teacher import OnnxTeacher
from detdistill.teachers.teacher import TeacherBatch
from support.evaluation_datasets import no_objects
from support.onnx_files import constants, f32, mean_pixel, one_hot_logits
from support.other_scale import beside
from support.pairs import BOXES, SIDE, batch
from support.tiny_detector import tiny_detector

CLASSES = ("cell", "platelet", "other")
GRID: frozenset[Offer] = frozenset({"grid"})
OPINIONS: frozenset[Offer] = frozenset({"opinions"})
CELLS = 21 * (SIDE // 32) ** 2


def imported(path: Path, classes: tuple[str, ...] = CLASSES, **card: Any) -> OnnxTeacher:
    import_onnx(path, path.with_suffix(".teacher"), settings=CardSettings(**card), classes=classes)
    teacher = load_teacher(str(path.with_suffix(".teacher")), no_objects(1, len(classes)))
    assert isinstance(teacher, OnnxTeacher)
    return teacher


def yolo(path: Path, **more: Any) -> OnnxTeacher:
    """Raw YOLO on 128x128: the first cell of each level has the score .5 of a class of its own, others .125 of all.

    Every box is (10, 12, 60, 70).
    """
    values = np.full((4 + len(CLASSES), CELLS), 0.125, np.float32)
    values[:4] = f32([35, 41, 50, 58])[:, None]
    for label, cell in enumerate((0, 256, 320)):
        values[4 + label, cell] = 0.5
    return imported(constants(path, {"output0": values}, size=(SIDE, SIDE), **more))


def boxes_only(path: Path, **more: Any) -> OnnxTeacher:
    """rfdetr's outputs on 64x64: the three boxes of `support.pairs`, of the classes 0, 1, 2."""
    corners = f32(BOXES) / SIDE
    boxes = np.concatenate(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), axis=1)
    return imported(constants(path, {"dets": boxes, "labels": one_hot_logits(3, 4)}, **more))


def asked(teacher: OnnxTeacher, images: Tensor, wanted: frozenset[Offer]) -> Any:
    return teacher.guide(TeacherBatch(images, torch.tensor([images.shape[2:]] * len(images)), wanted))


def test_a_grid_is_level_by_level_and_row_by_row(tmp_path: Path) -> None:
    teacher = yolo(tmp_path / "yolo.onnx")
    guidance = asked(teacher, torch.zeros(2, 3, SIDE, SIDE, dtype=torch.uint8), GRID)
    assert guidance.boxes is None
    assert guidance.dense.features.maps == ()
    predictions = guidance.dense.predictions
    assert predictions.grid.sizes == ((16, 16), (8, 8), (4, 4))
    assert predictions.grid.strides == ((8, 8), (16, 16), (32, 32))
    assert predictions.grid.centers[[0, 1, 16, 256, 320]].tolist() == [[4, 4], [12, 4], [4, 12], [8, 8], [16, 16]]
    scores = predictions.scores()
    assert scores.shape == (2, CELLS, 3)
    assert scores[1, [0, 256, 320]].tolist() == [
        pytest.approx([0.5, 0.125, 0.125]),
        pytest.approx([0.125, 0.5, 0.125]),
        pytest.approx([0.125, 0.125, 0.5]),
    ]
    assert torch.allclose(predictions.boxes(), torch.tensor([10.0, 12.0, 60.0, 70.0]).expand(2, CELLS, 4), atol=1e-4)


def test_a_grid_is_left_out_on_another_canvas(tmp_path: Path) -> None:
    teacher = yolo(tmp_path / "yolo.onnx")
    images = torch.zeros(1, 3, 64, 64, dtype=torch.uint8)
    guidance = asked(teacher, images, teacher.offers)
    assert guidance.output is None
    assert torch.allclose(guidance.set_of_boxes[0].boxes[0], torch.tensor([5.0, 6.0, 30.0, 35.0]), atol=1e-4)
    with pytest.raises(DetdistillError, match=r"yolo\.teacher.*128x128.*64x64"):
        asked(teacher, images, GRID)


def test_notes_tell_what_is_left_out(tmp_path: Path) -> None:
    teacher = yolo(tmp_path / "yolo.onnx")
    assert teacher.size == ImageSize(SIDE, SIDE)
    assert len(teacher.notes(InputSpec(size=ImageSize(letterbox=SIDE)))) == 1
    assert len(teacher.notes(InputSpec(canvas=(SIDE, SIDE)))) == 1
    for other in (InputSpec(), InputSpec(size=ImageSize(letterbox=64)), InputSpec(size=ImageSize(SIDE, SIDE))):
        assert any("128x128" in note for note in teacher.notes(other)[1:])
    high = boxes_only(tmp_path / "boxes.onnx")
    assert len(high.notes(InputSpec())) == 1
    outputs = {"dets": f32([[0.5, 0.5, 1, 1]]), "labels": one_hot_logits(1, 4)}
    high = imported(constants(tmp_path / "high.onnx", outputs), floor=0.5)
    assert any("0.5" in note for note in high.notes(InputSpec()))


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_fixed_batch_is_run_in_pieces(count: int, tmp_path: Path) -> None:
    path = constants(
        tmp_path / "fixed.onnx", {"dets": f32([[0.5, 0.5, 1, 1]]), "labels": one_hot_logits(1, 4)}, batch=2
    )
    found = asked(imported(path), torch.zeros(count, 3, 64, 64, dtype=torch.uint8), OPINIONS).set_of_boxes
    assert [each.boxes.tolist() for each in found] == [[[0.0, 0.0, 64.0, 64.0]]] * count


@pytest.mark.parametrize("count", [1, 3])
def test_each_image_gets_its_own_rows(count: int, tmp_path: Path) -> None:
    teacher = imported(
        mean_pixel(tmp_path / "mean.onnx"),
        ("all",),
        boxes="values",
        scores="scores",
        box_format="xyxy",
        box_unit="original",
        score_kind="probability",
        resize="letterbox",
        pad_color=(0, 0, 0),
        pixel_range="0..255",
        mean=(1, 2, 3),
        std=(1, 1, 1),
    )
    images = torch.zeros(count, 3, 64, 64, dtype=torch.uint8)
    for number in range(count):
        images[number] = torch.tensor([2, 5, 8 + number])[:, None, None]
    found = asked(teacher, images, OPINIONS).set_of_boxes
    for number, each in enumerate(found):
        assert torch.allclose(each.boxes, torch.tensor([[1.0, 3.0, 5.0 + number, 9.0 + number]]), atol=1e-4)


def test_what_is_not_wanted_is_not_made_and_the_teacher_is_not_copied(tmp_path: Path) -> None:
    teacher = boxes_only(tmp_path / "boxes.onnx")
    guidance = asked(teacher, torch.zeros(1, 3, 64, 64, dtype=torch.uint8), frozenset())
    assert (guidance.output, guidance.boxes) == (None, None)
    assert copy.deepcopy(teacher) is teacher
    assert (teacher.stored, teacher.tower_head) == (None, None)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sha256", {"sha256": "0" * 64}),
        ("classes", {"classes": ["a", "b"]}),
        ("nothing", {"outputs": {"boxes": "nothing"}}),
        ("outputs.grid", {"outputs": {"grid": [8, 16]}}),
        ("outputs.grid", {"outputs": {"grid": [24]}}),
        ("input.image", {"input": {"image": "pixels"}}),
        ("input.size", {"input": {"size": [64, 32]}}),
        ("input.size", {"input": {"size": None}}),
        ("input.layout", {"input": {"layout": "nhwc"}}),
        ("input.extra_inputs", {"input": {"extra_inputs": {"sizes": "input_wh"}}}),
    ],
)
def test_a_card_that_contradicts_its_file_is_refused(name: str, change: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "boxes.teacher"
    boxes_only(tmp_path / "boxes.onnx")
    content = json.loads((folder / CARD).read_text(encoding="utf-8"))
    for key, value in change.items():
        content[key] = content[key] | value if isinstance(value, dict) else value
    (folder / CARD).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(DetdistillError) as caught:
        load_teacher(str(folder), no_objects(1, 3))
    assert name in str(caught.value)
    assert str(folder) in str(caught.value)


def test_another_file_beside_the_card_is_refused(tmp_path: Path) -> None:
    boxes_only(tmp_path / "boxes.onnx")
    other = constants(tmp_path / "other.onnx", {"dets": f32([[0.5, 0.5, 1, 1]]), "labels": one_hot_logits(1, 4)})
    other.rename(tmp_path / "boxes.teacher" / MODEL)
    with pytest.raises(DetdistillError, match="sha256"):
        load_teacher(str(tmp_path / "boxes.teacher"), no_objects(1, 3))
    (tmp_path / "boxes.teacher" / MODEL).unlink()
    with pytest.raises(DetdistillError, match=MODEL):
        load_teacher(str(tmp_path / "boxes.teacher"), no_objects(1, 3))


def student() -> DenseDetector:
    """A student with one anchor a cell at strides 8 to 128, on a canvas of 128x128."""
    made = tiny_detector("gfl", CLASSES)
    made.input = InputSpec(size=ImageSize(letterbox=SIDE))
    return made.train()


def test_a_student_learns_from_the_cells_of_a_raw_yolo(tmp_path: Path) -> None:
    teacher = yolo(tmp_path / "yolo.onnx")
    pair = Distiller(student(), teacher, {"soft": SoftLabel(where="all")}, weights={"soft": Weight(1.0)})
    assert any("strides 8, 16, 32 are compared" in note for note in pair.notes)
    images, targets = batch([0, 1, 2], [1])
    compared = pair.compare(images, targets)
    (view,) = compared.views
    assert not view.by_opinion
    scores = view.teacher.predictions.scores()
    assert scores.shape[1] == CELLS
    assert scores[:, [0, 256, 320]].diagonal(dim1=1, dim2=2).tolist() == [pytest.approx([0.5] * 3)] * 2
    loss = pair(images, targets)["soft"]
    assert loss.item() > 0
    loss.backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in pair.student.parameters())


def test_a_student_learns_from_boxes_alone(tmp_path: Path) -> None:
    teacher = boxes_only(tmp_path / "boxes.onnx")
    pair = Distiller(student(), teacher, {"soft": SoftLabel()}, weights={"soft": Weight(1.0)})
    images, targets = batch([0, 1, 2], padded=False)
    (view,) = pair.compare(images, targets).views
    assert view.by_opinion
    assert view.targets.labels.tolist() == [0, 1, 2]
    loss = pair(images, targets)["soft"]
    assert loss.item() > 0
    loss.backward()
    with pytest.raises(DetdistillError, match="features"):
        Distiller(student(), teacher, {"imitation": PredictionGuided()})


def test_a_raw_yolo_of_another_canvas_teaches_by_its_boxes(tmp_path: Path) -> None:
    teacher = yolo(tmp_path / "yolo.onnx")
    made = student()
    made.input = InputSpec(size=ImageSize(letterbox=64))
    pair = Distiller(made, teacher, {"soft": SoftLabel()}, weights={"soft": Weight(1.0)})
    assert any("grid is left out" in note for note in pair.notes)
    assert {type(way) for way in pair._ways.correspondences} == {OpinionCorrespondence}
    with pytest.raises(DetdistillError, match="grid"):
        Distiller(made, teacher, {"soft": SoftLabel(source="grid")})


def test_a_student_of_smaller_images_learns_from_the_cells_of_a_raw_yolo(tmp_path: Path) -> None:
    """At twice the side, its canvas is the file's: strides 16 and 32 meet the student's 8 and 16."""
    teacher = yolo(tmp_path / "yolo.onnx")
    made = student()
    made.input = InputSpec(size=ImageSize(letterbox=64))
    pair = Distiller(made, teacher, {"soft": SoftLabel(where="all")}, teacher_ratio=2)
    assert not any("grid is left out" in note for note in pair.notes)
    assert any("strides 8, 16 of the student are compared with strides 16, 32" in note for note in pair.notes)
    images, targets = batch([0, 1, 2], padded=False)
    targets = replace(targets, boxes=targets.boxes / 2, sizes=targets.sizes // 2)
    shown = beside(images[..., :64, :64], targets, 2)
    (view,) = pair.compare(images[..., :64, :64], shown).views
    predictions = view.teacher.predictions
    assert predictions.grid.strides == ((8, 8), (16, 16))
    assert predictions.scores()[0, 0].tolist() == pytest.approx([0.125, 0.5, 0.125])
    torch.testing.assert_close(predictions.boxes()[0, 0], torch.tensor([5.0, 6, 30, 35]))


def test_boxes_of_a_file_that_resizes_are_the_same_at_any_size(tmp_path: Path) -> None:
    teacher = boxes_only(tmp_path / "boxes.onnx")
    images, targets = batch([0, 1, 2], padded=False)
    plain = Distiller(student(), teacher, {"soft": SoftLabel()}).guide(images, targets)
    for ratio in (2, 0.5):
        pair = Distiller(student(), teacher, {"soft": SoftLabel()}, teacher_ratio=ratio)
        found = pair.guide(images, beside(images, targets, ratio))
        torch.testing.assert_close(found.set_of_boxes[0].boxes, plain.set_of_boxes[0].boxes)
