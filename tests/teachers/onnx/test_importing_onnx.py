from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.structures import TeacherBoxes
from detdistill.teachers.loading import load_teacher, origin_of
from detdistill.teachers.onnx.importing_onnx import import_onnx
from detdistill.teachers.onnx.onnx_card import read_card
from detdistill.teachers.onnx.onnx_settings import CardSettings
from detdistill.teachers.onnx.onnx_teacher import OnnxTeacher
from detdistill.teachers.teacher import TeacherBatch
from support.evaluation_datasets import no_objects
from support.onnx_files import constants, f32, one_hot_logits, relative_times_size

CLASSES = ("a", "b", "c")
CENTER = f32([[0.5, 0.5, 0.5, 0.25], [0.25, 0.25, 0.5, 0.5]])
"""Two relative boxes as centre and size; on 64x64: (16, 24, 48, 40) and (0, 0, 32, 32)."""
CORNERS = [[16.0, 24.0, 48.0, 40.0], [0.0, 0.0, 32.0, 32.0]]
HIGH = 1 / (1 + np.exp(-4.0))


def imported(path: Path, *, classes: tuple[str, ...] | None = CLASSES, **card: Any) -> OnnxTeacher:
    """The teacher of an ONNX file, loaded from the folder that it was imported to."""
    out = path.with_suffix(".teacher")
    import_onnx(path, out, settings=CardSettings(**card), classes=classes)
    teacher = load_teacher(str(out), no_objects(1, 3))
    assert isinstance(teacher, OnnxTeacher)
    return teacher


def boxes_of(
    teacher: OnnxTeacher, canvas: tuple[int, int] = (64, 64), size: tuple[int, int] = (64, 64)
) -> TeacherBoxes:
    """What it predicts in an image of a size on a canvas; the same for another image of the batch."""
    images = torch.zeros(2, 3, *canvas, dtype=torch.uint8)
    guidance = teacher.guide(TeacherBatch(images, torch.tensor([size, size]), frozenset({"opinions"})))
    first, second = guidance.set_of_boxes
    assert guidance.output is None
    assert torch.equal(first.boxes, second.boxes)
    return first


def refused(path: Path, *words: str, classes: tuple[str, ...] | None = CLASSES, **card: Any) -> None:
    """The import fails with an error that names the file and these words, and leaves nothing behind."""
    out = path.with_suffix(".teacher")
    with pytest.raises(DetdistillError) as caught:
        import_onnx(path, out, settings=CardSettings(**card), classes=classes)
    for word in (path.name, *words):
        assert word in str(caught.value)
    assert not out.exists()
    assert not list(path.parent.glob(".*"))


def test_dfine_gets_width_and_height_of_its_input_and_its_class_vectors_are_whole_again(tmp_path: Path) -> None:
    path = relative_times_size(tmp_path / "dfine.onnx", f32([[0.25, 0.5, 0.5, 1], [0, 0, 0.5, 0.5]]), size=(64, 128))
    teacher = imported(path)
    assert teacher.kind == "dfine"
    found = boxes_of(teacher, (32, 64), (32, 64))
    assert found.boxes.tolist() == [[16.0, 16.0, 32.0, 32.0], [0.0, 0.0, 32.0, 16.0]]
    assert found.probabilities[:, 0].tolist() == pytest.approx([0.9, 0.8])
    outputs: dict[str, Any] = {
        "labels": np.array([2, 0, 1, 0], np.int64),
        "boxes": f32([[8, 8, 24, 24], [0, 0, 8, 8], [8, 8, 24, 24], [8, 8, 24, 24]]),
        "scores": f32([0.9, 0.5, 0.3, 0.1]),
    }
    path = constants(tmp_path / "pairs.onnx", outputs, extra={"orig_target_sizes": ["N", 2]})
    found = boxes_of(imported(path))
    assert found.boxes.tolist() == [[8.0, 8.0, 24.0, 24.0], [0.0, 0.0, 8.0, 8.0]]
    assert found.labels.tolist() == [2, 0]
    assert torch.allclose(found.probabilities, torch.tensor([[0.1, 0.3, 0.9], [0.5, 0.0, 0.0]]))


def test_dfine_seg_raw_and_fused(tmp_path: Path) -> None:
    raw = constants(tmp_path / "raw.onnx", {"logits": one_hot_logits(2, 3), "boxes": CENTER}, image="input")
    refused(raw, "resize")
    found = boxes_of(imported(raw, resize="stretch"), (32, 64), (32, 64))
    assert found.boxes.tolist() == [[16.0, 12.0, 48.0, 20.0], [0.0, 0.0, 32.0, 16.0]]
    outputs: dict[str, Any] = {"labels": np.array([1, 2], np.int64), "boxes": f32(CORNERS), "scores": f32([0.5, 0.75])}
    fused = imported(constants(tmp_path / "fused.onnx", outputs), resize="stretch")
    assert boxes_of(fused).labels.tolist() == [2, 1]


def test_rfdetr_goes_by_name_where_boxes_and_logits_are_equally_wide(tmp_path: Path) -> None:
    logits = one_hot_logits(2, 4)
    logits[:, 3] = 9.0  # the slot of no class
    for order in (("dets", "labels"), ("labels", "dets")):
        outputs = {"dets": CENTER, "labels": logits}
        path = constants(tmp_path / f"{order[0]}.onnx", {name: outputs[name] for name in order}, image="input")
        found = boxes_of(imported(path))
        assert found.boxes.tolist() == CORNERS
        assert found.labels.tolist() == [0, 1]
        assert found.scores.tolist() == pytest.approx([HIGH, HIGH])


def test_rfdetr_of_coco_has_columns_by_category_id(tmp_path: Path) -> None:
    names = tuple(f"name {number}" for number in range(80))
    logits = np.full((1, 91), -9.0, np.float32)
    logits[0, 90] = 4.0
    path = constants(tmp_path / "coco.onnx", {"dets": CENTER[:1], "labels": logits})
    found = boxes_of(imported(path, classes=names))
    assert found.labels.tolist()[0] == 79
    own = tuple(f"name {number}" for number in range(90))
    teacher = imported(constants(tmp_path / "own.onnx", {"dets": CENTER[:1], "labels": logits}), classes=own)
    assert teacher.card.outputs.dropped == (90,)


def raw_yolo(rows: Mapping[int, tuple[list[float], list[float]]], classes: int = 2, side: int = 64) -> Any:
    """`(4 + C, P)` with boxes (centre, size) and scores by cell; the other cells have no score."""
    values = np.zeros((4 + classes, side * side * 21 // 1024), np.float32)
    values[:4] = 1.0
    for cell, (box, scores) in rows.items():
        values[:4, cell], values[4:, cell] = box, scores
    return values


ULTRALYTICS = {"names": "{0: 'cat', 1: 'dog'}", "stride": "32", "task": "detect", "imgsz": "[64, 64]"}


def test_raw_yolo_is_suppressed_and_read_off_its_metadata(tmp_path: Path) -> None:
    rows = {
        0: ([20.0, 20.0, 16.0, 8.0], [0.9, 0.3]),
        9: ([20.0, 20.0, 16.0, 9.0], [0.8, 0.0]),  # suppressed by the first
        83: ([48.0, 48.0, 16.0, 16.0], [0.04, 0.6]),
    }
    path = constants(tmp_path / "yolo.onnx", {"output0": raw_yolo(rows)}, metadata=ULTRALYTICS)
    teacher = imported(path, classes=None)
    assert teacher.classes == ("cat", "dog")
    assert teacher.offers == {"boxes", "opinions", "grid"}
    assert teacher.card.outputs.grid == (8, 16, 32)
    found = boxes_of(teacher)
    assert torch.allclose(found.boxes[0], torch.tensor([12.0, 16.0, 28.0, 24.0]), atol=1e-4)
    assert found.labels.tolist() == [0, 1, 1]
    assert found.scores.tolist() == pytest.approx([0.9, 0.6, 0.3], abs=1e-5)
    assert found.floor == 0.05


def test_raw_yolo_of_any_size_and_without_names(tmp_path: Path) -> None:
    path = constants(
        tmp_path / "free.onnx",
        {"output0": raw_yolo({0: ([20.0, 20.0, 16.0, 8.0], [0.9, 0.3])}, side=256)},
        size=("height", "width"),
        shapes={"output0": ["N", 6, "rows"]},
        metadata={"imgsz": "[256, 256]", "stride": "64"},
    )
    teacher = imported(path, classes=("cat", "dog"))
    assert (teacher.card.input.size, teacher.card.input.multiple) == (None, 64)
    assert torch.allclose(boxes_of(teacher, (256, 256), (200, 256)).boxes[0], torch.tensor([12.0, 16.0, 28.0, 24.0]))
    with pytest.raises(DetdistillError, match=r"outputs\.grid"):
        boxes_of(teacher, (64, 64))
    sized = imported(path.rename(tmp_path / "sized.onnx"), classes=("cat", "dog"), size=(128, 512))
    assert sized.card.input.size == (128, 512)
    found = boxes_of(sized, (64, 256), (64, 256))
    assert found.boxes[0].tolist() == pytest.approx([6.0, 8.0, 14.0, 12.0], abs=1e-4)


def test_raw_yolo_with_other_rows_than_cells_is_refused(tmp_path: Path) -> None:
    path = constants(tmp_path / "yolo.onnx", {"output0": raw_yolo({}, side=96)}, metadata=ULTRALYTICS)
    refused(path, "grid", "189", "84", classes=None)
    without = imported(path, classes=None, grid=())
    assert without.offers == {"boxes", "opinions"}
    path = constants(tmp_path / "p2.onnx", {"output0": np.zeros((6, 84 + 256), np.float32)}, metadata=ULTRALYTICS)
    assert imported(path, classes=None).card.outputs.grid == (4, 8, 16, 32)
    path = path.rename(tmp_path / "p2_wrong.onnx")
    for strides in ((8, 16, 32), (0, 16), (-4, 8, 16, 32), (48,)):
        refused(path, "grid", classes=None, grid=strides)


def test_the_cells_of_a_large_input_are_no_classes(tmp_path: Path) -> None:
    path = constants(tmp_path / "large.onnx", {"output0": raw_yolo({}, side=320)}, size=(320, 320))
    import_onnx(path, tmp_path / "teacher", number_classes=True)
    assert read_card(tmp_path / "teacher").signature == "yolo_raw"
    assert read_card(tmp_path / "teacher").classes == ("class_0", "class_1")


def test_metadata_that_contradicts_the_input_is_refused(tmp_path: Path) -> None:
    metadata = {**ULTRALYTICS, "imgsz": "[64, 96]"}
    path = constants(tmp_path / "yolo.onnx", {"output0": raw_yolo({})}, metadata=metadata)
    refused(path, "imgsz", classes=None)
    for name, text in (("names", "{0: 'cat'"), ("task", "segment")):
        path = constants(tmp_path / f"{name}.onnx", {"output0": raw_yolo({})}, metadata={**ULTRALYTICS, name: text})
        refused(path, name, classes=None)
    path = constants(
        tmp_path / "own.onnx", {"scores": f32([[0.5]]), "boxes": CENTER[:1]}, metadata={"detdistill": '{"form": 1}'}
    )
    refused(path, "metadata detdistill", classes=None)


def test_end_to_end_yolo(tmp_path: Path) -> None:
    rows = np.zeros((300, 6), np.float32)
    rows[:2] = [[16, 24, 48, 40, 0.5, 1], [0, 0, 32, 32, 0.75, 0]]
    path = constants(tmp_path / "yolo26.onnx", {"output0": rows}, metadata={**ULTRALYTICS, "end2end": "True"})
    teacher = imported(path, classes=None)
    assert teacher.kind == "yolo_end_to_end"
    found = boxes_of(teacher)
    assert found.boxes.tolist() == CORNERS[::-1]
    assert found.probabilities.tolist() == [[0.75, 0.0], [0.0, 0.5]]
    assert found.floor == 0.0


def test_the_threshold_of_nms_inside_is_asked_for_or_read(tmp_path: Path) -> None:
    rows = np.zeros((300, 6), np.float32)
    metadata = {**ULTRALYTICS, "args": "{'nms': True}"}
    path = constants(tmp_path / "nms.onnx", {"output0": rows}, metadata=metadata)
    refused(path, "floor", classes=None)
    assert boxes_of(imported(path, classes=None, floor=0.25)).floor == 0.25
    metadata = {**ULTRALYTICS, "args": "{'nms': True, 'conf': 0.125}"}
    path = constants(tmp_path / "conf.onnx", {"output0": rows}, metadata=metadata)
    assert boxes_of(imported(path, classes=None)).floor == 0.125


def test_ultralytics_rtdetr_and_the_two_readings_of_six_columns(tmp_path: Path) -> None:
    three = np.concatenate((CENTER, f32([[0.5, 0, 0], [0, 0.25, 0]])), axis=1)
    found = boxes_of(imported(constants(tmp_path / "three.onnx", {"output0": three})))
    assert found.boxes.tolist() == CORNERS
    assert found.labels.tolist() == [0, 1]
    two = np.concatenate((CENTER, f32([[0.5, 0], [0, 0.25]])), axis=1)
    path = constants(tmp_path / "two.onnx", {"output0": two})
    refused(path, "output0", "--card.labels", classes=("a", "b"))
    assert boxes_of(imported(path, classes=("a", "b"), box_unit="relative")).boxes.tolist() == CORNERS
    described = {**ULTRALYTICS, "description": "Ultralytics rtdetr-l model"}
    path = constants(tmp_path / "described.onnx", {"output0": two}, metadata=described)
    assert imported(path, classes=None).kind == "ultralytics_rtdetr"
    described = {**ULTRALYTICS, "description": "Ultralytics YOLO26n model"}
    path = constants(tmp_path / "yolo.onnx", {"output0": np.zeros((300, 6), np.float32)}, metadata=described)
    assert imported(path, classes=None).kind == "yolo_end_to_end"


def test_transformers_with_sigmoid_or_with_no_object_last(tmp_path: Path) -> None:
    known: dict[str, Any] = {"resize": "stretch", "mean": (0, 0, 0), "std": (1, 1, 1)}
    path = constants(tmp_path / "sigmoid.onnx", {"logits": one_hot_logits(2, 3), "pred_boxes": CENTER})
    found = boxes_of(imported(path, **known))
    assert found.boxes.tolist() == CORNERS
    assert found.scores.tolist() == pytest.approx([HIGH, HIGH])
    logits = f32([[1, 0, 0, 2], [0, 0, 0, 9]])
    path = constants(tmp_path / "softmax.onnx", {"logits": logits, "pred_boxes": CENTER}, image="pixel_values")
    found = boxes_of(imported(path, **known))
    assert torch.allclose(found.probabilities, torch.from_numpy(logits).softmax(dim=-1)[:, :3])
    refused(path.rename(tmp_path / "unknown.onnx"), "mean", "std", "resize")


def test_transformers_with_a_mask_and_with_other_boxes(tmp_path: Path) -> None:
    known: dict[str, Any] = {"resize": "pad", "pad_color": (0, 0, 0), "mean": (0, 0, 0), "std": (1, 1, 1)}
    outputs: dict[str, Any] = {"logits": one_hot_logits(2, 3), "pred_boxes": CENTER, "enc_topk_bboxes": CENTER / 2}
    path = constants(tmp_path / "many.onnx", outputs, extra={"pixel_mask": ["N", 64, 64]})
    refused(path, "enc_topk_bboxes", "--card.boxes", **known)
    teacher = imported(path, boxes="pred_boxes", **known)
    assert teacher.card.input.extra_inputs == {"pixel_mask": "mask"}
    assert boxes_of(teacher).boxes.tolist() == CORNERS


def test_our_own_export_is_known_without_options(tmp_path: Path) -> None:
    metadata = {
        "form": "end_to_end",
        "classes": ["a", "b"],
        "postprocessing": {"score_threshold": 0.125, "iou_threshold": 0.5},
    }
    outputs: dict[str, Any] = {
        "boxes": f32(CORNERS),
        "scores": f32([0.5, -1]),
        "labels": np.array([1, 0], np.int64),
        "counts": np.array(1, np.int64),
    }
    path = constants(
        tmp_path / "own.onnx",
        outputs,
        size=("h", "w"),
        extra={"sizes": ["N", 2]},
        image_type=2,
        metadata={"detdistill": json.dumps(metadata)},
    )
    teacher = imported(path, classes=None)
    found = boxes_of(teacher, (64, 96), (64, 80))
    assert teacher.classes == ("a", "b")
    assert found.boxes.tolist() == CORNERS[:1]
    assert (found.labels.tolist(), found.floor) == ([1], 0.125)


def test_a_file_that_nobody_knows_is_described_by_hand(tmp_path: Path) -> None:
    outputs: dict[str, Any] = {"where": f32(CORNERS), "what": f32([[0.1, 0.7], [0.9, 0.2]])}
    path = constants(tmp_path / "other.onnx", outputs, channels_last=True)
    refused(path, "boxes", "scores", "where (?, 2, 4)", "what (?, 2, 2)")
    by_hand: dict[str, Any] = {"boxes": "where", "scores": "what", "box_format": "xyxy", "box_unit": "input"}
    refused(path, "classes", "score_kind", "pixel_range", "mean", "std", "resize", classes=None, **by_hand)
    by_hand |= {"score_kind": "probability", "pixel_range": "0..1", "mean": (0, 0, 0), "std": (1, 1, 1)}
    refused(path, "pad_color", classes=("a", "b"), resize="letterbox", **by_hand)
    teacher = imported(path, classes=("a", "b"), resize="stretch", **by_hand)
    assert (teacher.kind, teacher.card.input.layout) == ("given", "nhwc")
    assert torch.allclose(boxes_of(teacher).probabilities, torch.tensor([[0.9, 0.2], [0.1, 0.7]]))
    overlapping = constants(tmp_path / "twice.onnx", {"where": f32(CORNERS[:1] * 2), "what": outputs["what"]})
    assert len(boxes_of(imported(overlapping, classes=("a", "b"), resize="stretch", **by_hand))) == 2
    suppressed = imported(
        overlapping.rename(tmp_path / "nms.onnx"), classes=("a", "b"), resize="stretch", nms=0.5, floor=0.25, **by_hand
    )
    assert boxes_of(suppressed).scores.tolist() == pytest.approx([0.9, 0.7], abs=1e-5)
    assert boxes_of(suppressed).floor == 0.25


def test_numbered_classes_have_as_many_names_as_the_file_has_columns(tmp_path: Path) -> None:
    path = constants(tmp_path / "rf.onnx", {"dets": CENTER, "labels": one_hot_logits(2, 4)})
    import_onnx(path, tmp_path / "teacher", number_classes=True)
    assert read_card(tmp_path / "teacher").classes == ("class_0", "class_1", "class_2")


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"labels": one_hot_logits(2, 3), "boxes": CENTER, "scores": f32([0, 1]), "boxes_2": CENTER}, ["boxes_2"]),
        ({"logits": one_hot_logits(2, 3), "pred_boxes": CENTER, "boxes": CENTER}, ["pred_boxes", "--card.boxes"]),
        ({"dets": CENTER, "labels": one_hot_logits(2, 5)}, ["labels", "(?, 2, 5)"]),
        ({"dets": CENTER, "labels": np.array([0, 1], np.int64)}, ["boxes", "scores"]),  # of mmdeploy
        ({"dets": CENTER[:1], "labels": one_hot_logits(2, 4)}, ["labels", "dets"]),
        ({"output0": np.zeros((6, 84), np.float32), "output1": np.zeros((2, 2), np.float32)}, ["output1"]),
        ({"output0": f32([[16, 24, 48, 40, 7.5, 0.1, 0.1]])}, ["output0", "score_kind"]),  # logits, not probabilities
        ({"dets": f32([[np.nan, 1, 1, 1]]), "labels": one_hot_logits(1, 4)}, ["dets", "NaN"]),
        ({"dets": CENTER[:1], "labels": f32([[0, 0, np.nan, 0]])}, ["labels", "NaN"]),
        ({"output0": f32([[16, 24, 48, 40, 0.5, 3]])}, ["output0", "class number 3"]),
    ],
)
def test_outputs_that_contradict_what_is_known_are_refused(
    outputs: Mapping[str, Any], words: list[str], tmp_path: Path
) -> None:
    refused(constants(tmp_path / "model.onnx", outputs), *words)


def test_settings_that_contradict_the_file_or_each_other_are_refused(tmp_path: Path) -> None:
    path = constants(tmp_path / "rf.onnx", {"dets": CENTER, "labels": one_hot_logits(2, 4)})
    refused(path, "input.size", size=(32, 32))
    refused(path, "image", image="pixels")
    refused(path, "labels", classes=("a", "b"))
    refused(path, "extra_inputs", extra_inputs={"sizes": "input_wh"})
    refused(path, "outputs.grid", grid=(8, 16, 32))
    refused(path, "dropped", score_kind="softmax", dropped=())
    refused(path, "classes", classes=("a", "a", "b"))
    with pytest.raises(SettingsError, match=r"input\.std"):
        import_onnx(path, tmp_path / "out", settings=CardSettings(std=(0, 1, 1)), classes=CLASSES)
    many = constants(tmp_path / "extra.onnx", {"dets": CENTER, "labels": one_hot_logits(2, 4)}, extra={"factor": ["N"]})
    refused(many, "extra_inputs")


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = constants(tmp_path / "rf.onnx", {"dets": CENTER, "labels": one_hot_logits(2, 4)})
    (tmp_path / "teacher").mkdir()
    with pytest.raises(DetdistillError, match="exists already"):
        import_onnx(path, tmp_path / "teacher", classes=CLASSES)
    assert list((tmp_path / "teacher").iterdir()) == []


def test_a_teacher_needs_no_more_than_its_folder(tmp_path: Path) -> None:
    path = constants(tmp_path / "rf.onnx", {"dets": CENTER, "labels": one_hot_logits(2, 4)})
    teacher = imported(path)
    path.unlink()
    again = load_teacher(str(path.with_suffix(".teacher")), no_objects(1, 3))
    assert again.origin == teacher.origin == origin_of(str(path.with_suffix(".teacher")))
    other = constants(tmp_path / "other.onnx", {"dets": CENTER / 2, "labels": one_hot_logits(2, 4)})
    assert imported(other).origin["sha256"] != teacher.origin["sha256"]
    assert {each.name for each in path.with_suffix(".teacher").iterdir()} == {"model.onnx", "card.json"}
    json.dumps(again.origin)
