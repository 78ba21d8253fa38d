from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detdistill.core.annotations import ImageTable
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.offers import Offer
from detdistill.core.structures import TeacherBoxes
from detdistill.data.detections_folder import FILE_NAME, read_detections, read_header
from detdistill.data.loading import evaluation_loader
from detdistill.data.opening import open_dataset
from detdistill.data.plain_images import plain_images
from detdistill.data.source import DatasetSource
from detdistill.detectors.running import InferenceOptions
from detdistill.detectors.saving import save_detector
from detdistill.evaluation.storing import store_detections
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.loading import load_teacher
from detdistill.teachers.teacher import Guidance, TeacherBatch
from support.pairs import confident
from support.small_runs import write_boxes
from support.stored_boxes import boxes_of
from support.tiny_detector import tiny_detector

SIZE = ImageSize(short_side=96, long_side=96)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_boxes(tmp_path / "data")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    save_detector(confident(tiny_detector("gfl", ("green", "red"))), folder, image_size=SIZE)
    return folder


def boxes_in(folder: Path, data: Path, split: str) -> list[TeacherBoxes]:
    """What is stored for each image of a split."""
    dataset = open_dataset(data, split)
    boxes = read_detections(folder, read_header(folder)).boxes_of(dataset)
    return [boxes[image] for image in range(len(dataset.images))]


class Fixed:
    """A teacher that predicts the same boxes of three classes in every image."""

    classes = ("green", "red", "blue")
    kind = "fixed"
    size = None
    stored = None
    tower_head = None
    region_reader = None

    def __init__(self, *boxes: TeacherBoxes, offers: tuple[Offer, ...] = ("boxes", "opinions")) -> None:
        self.boxes, self.offers = boxes, frozenset(offers)
        self.origin = {"callable": "fixed"}
        self.seen = 0

    def guide(self, batch: TeacherBatch) -> Guidance:
        self.seen += len(batch.images)
        return Guidance(boxes=self.boxes * len(batch.images))

    def notes(self, student: object) -> list[str]:  # noqa: ARG002
        return []


def test_opinions_of_stored_boxes_are_those_of_the_detector(data: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes"
    found = store_detections(run, data, out, options=InferenceOptions(batch_size=3))
    assert found.predicted == {"train": 8, "val": 4}
    assert not found.unreadable
    for split in ("train", "val"):
        dataset = open_dataset(data, split)
        detector, stored = load_teacher(str(run), dataset), load_teacher(str(out), dataset)
        assert isinstance(detector, DetectorTeacher)
        assert stored.stored is not None
        floor = detector.detector.postprocessing.score_threshold
        assert {found.floor for found in boxes_in(out, data, split)} == {floor}
        loader = evaluation_loader(dataset, ImageOptions(96, 96), batch_size=4, stored=stored.stored)
        generator = torch.Generator().manual_seed(0)
        for batch in loader:
            asked = TeacherBatch(
                batch.images, batch.targets.sizes, frozenset({"boxes", "opinions"}), batch.targets.stored
            )
            corners = torch.rand(200, 2, generator=generator) * 70
            boxes = torch.cat((corners, corners + 8 + torch.rand(200, 2, generator=generator) * 40), dim=1)
            image = torch.arange(200) * len(batch.images) // 200
            one, other = (teacher.guide(asked).opinions(boxes, image) for teacher in (detector, stored))
            assert (one.scores > 0.1).any()
            torch.testing.assert_close(other.scores, one.scores, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(other.boxes, one.boxes, atol=1e-3, rtol=0, equal_nan=True)


def test_the_header_says_how_the_boxes_came_about(data: Path, run: Path, tmp_path: Path) -> None:
    store_detections(run, DatasetSource(data, "val"), tmp_path / "boxes", floor=0.2, short_side=64, long_side=64)
    header = read_header(tmp_path / "boxes")
    assert header.classes == ("green", "red")
    assert header.floor == 0.2
    assert header.image_size == ImageSize(short_side=64, long_side=64)
    assert header.postprocessing is not None
    assert header.postprocessing["score_threshold"] == 0.2
    assert header.postprocessing["iou_threshold"] == 0.6
    assert header.teacher["sha256"] == json.loads((run / "model.json").read_text())["weights_sha256"]
    assert [(part.split, part.images) for part in header.parts] == [("val", 4)]
    assert all((found.scores >= 0.2).all() for found in boxes_in(tmp_path / "boxes", data, "val"))


def test_boxes_are_kept_in_pixels_of_the_files_with_the_best_classes(data: Path, tmp_path: Path) -> None:
    found = TeacherBoxes(
        torch.tensor([[16.0, 32.0, 64.0, 200.0], [8.0, 8.0, 8.0, 20.0]]),
        torch.tensor([1, 0]),
        torch.tensor([[0.2, 0.6, 0.3], [0.9, 0.0, 0.0]]),
        0.01,
    )
    store_detections(Fixed(found), DatasetSource(data, "val"), tmp_path / "a", top_k=2, short_side=128, long_side=128)
    one = boxes_in(tmp_path / "a", data, "val")[0]
    assert one.boxes.tolist() == [[8, 16, 32, 64]], "clipped to 64 pixels; one without area is left out"
    torch.testing.assert_close(one.probabilities, torch.tensor([[0.0, 0.6, 0.3]]))
    assert one.labels.tolist() == [1]


def test_unreadable_images_do_not_lose_the_others_and_can_be_added_later(data: Path, run: Path, tmp_path: Path) -> None:
    broken = data / "train" / "3.png"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    (data / "val" / "0.png").unlink()
    out = tmp_path / "boxes"
    found = store_detections(run, data, out)
    assert found.predicted == {"train": 7, "val": 3}
    assert [path.name for path in found.unreadable] == ["3.png", "0.png"]
    broken.write_bytes(content)
    with pytest.raises(DataError, match=r"1 of 8 images .*3\.png"):
        boxes_in(out, data, "train")
    again = store_detections(run, DatasetSource(data, "train"), out)
    assert again.predicted == {"train": 1}
    assert again.before == {"train": 7}
    assert len(boxes_in(out, data, "train")) == 8
    assert store_detections(run, DatasetSource(data, "train"), out).predicted == {"train": 0}


def test_what_was_predicted_before_a_crash_is_kept(data: Path, tmp_path: Path) -> None:
    class Failing(Fixed):
        def guide(self, batch: TeacherBatch) -> Guidance:
            if self.seen >= 4:
                raise KeyboardInterrupt
            return super().guide(batch)

    boxes, out, options = boxes_of((1, 1, 9, 9, 0, 0.5)), tmp_path / "boxes", InferenceOptions(batch_size=2)
    with pytest.raises(KeyboardInterrupt):
        store_detections(Failing(boxes), data, out, short_side=64, long_side=64, options=options)
    teacher = Fixed(boxes)
    found = store_detections(teacher, data, out, short_side=64, long_side=64, options=options)
    assert found.before == {"train": 4, "val": 0}
    assert teacher.seen == sum(found.predicted.values()) == 8


def test_many_images_are_written_a_few_at_a_time(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("detdistill.evaluation.detections_writer.IMAGES_OF_A_FILE", 3)
    teacher, options = Fixed(boxes_of((1, 1, 9, 9, 0, 0.5))), InferenceOptions(batch_size=2)
    found = store_detections(teacher, data, tmp_path / "boxes", short_side=64, long_side=64, options=options)
    assert found.boxes == 12
    assert [part.images for part in read_header(tmp_path / "boxes").parts] == [4, 4, 4]
    stored = read_detections(tmp_path / "boxes", read_header(tmp_path / "boxes"))
    assert np.unique(stored.images.rows_of(open_dataset(data, "train"))).tolist() == list(range(8))


def test_predictions_that_are_not_finite_are_refused(data: Path, tmp_path: Path) -> None:
    broken = boxes_of((1, 1, 9, 9, 0, float("nan")))
    with pytest.raises(DataError, match=r"0\.png"):
        store_detections(Fixed(broken), data, tmp_path / "boxes", short_side=64, long_side=64)
    assert not (tmp_path / "boxes").exists()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"floor": 0.1}, "floor"),
        ({"top_k": 2}, "top_k"),
        ({"short_side": 32}, "image_size"),
        ({"teacher": "classes"}, "classes"),
        ({"teacher": "origin"}, "teacher"),
    ],
)
def test_a_folder_has_one_teacher_and_one_setting(
    data: Path, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    teacher = Fixed(boxes_of((1, 1, 9, 9, 0, 0.5), floor=0.01))
    settings: dict[str, Any] = {"teacher": teacher, "short_side": 64, "long_side": 64}
    store_detections(data=data, out=tmp_path / "boxes", **settings)
    before = (tmp_path / "boxes" / FILE_NAME).read_bytes()
    if change.get("teacher") == "classes":
        teacher.classes = ("green", "red", "grey")
    elif "teacher" in change:
        teacher.origin = {"callable": "another"}
    settings |= {key: value for key, value in change.items() if key != "teacher"}
    with pytest.raises(DetdistillError, match=rf"{FILE_NAME}: {named} "):
        store_detections(data=data, out=tmp_path / "boxes", **settings)
    assert (tmp_path / "boxes" / FILE_NAME).read_bytes() == before


def test_other_images_of_the_same_names_are_not_taken_for_predicted_ones(data: Path, tmp_path: Path) -> None:
    teacher, out = Fixed(boxes_of((1, 1, 9, 9, 0, 0.5))), tmp_path / "boxes"
    store_detections(teacher, DatasetSource(data, "train"), out, short_side=64, long_side=64)
    for file in (data / "train").iterdir():
        file.write_bytes((data / "val" / "0.png").read_bytes())
    with pytest.raises(DataError, match="train holds detections of other image files"):
        store_detections(teacher, DatasetSource(data, "train"), out, short_side=64, long_side=64)


def test_images_without_annotations_are_predicted(data: Path, run: Path, tmp_path: Path) -> None:
    file = data / "annotations" / "instances_val.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "annotations": []}))
    assert store_detections(run, DatasetSource(data, "val"), tmp_path / "boxes").predicted == {"val": 4}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"top_k": 0}, "top_k"),
        ({"floor": 1.0}, "floor"),
        ({"floor": float("nan")}, "floor"),
        ({"floor": 0.001}, "0.01"),
        ({"device": "nowhere"}, "nowhere"),
        ({"short_side": None, "long_side": None}, "--short-side"),
    ],
)
def test_values_that_cannot_be_used_are_named(data: Path, tmp_path: Path, change: dict[str, Any], named: str) -> None:
    teacher = Fixed(boxes_of((1, 1, 9, 9, 0, 0.5), floor=0.01))
    settings: dict[str, Any] = {"short_side": 64, "long_side": 64} | change
    with pytest.raises(DetdistillError) as refused:
        store_detections(teacher, data, tmp_path / "boxes", **settings)
    assert named in str(refused.value)
    assert not (tmp_path / "boxes").exists()


def test_a_teacher_without_boxes_of_its_own_is_refused(data: Path, tmp_path: Path) -> None:
    teacher = Fixed(boxes_of((1, 1, 9, 9, 0, 0.5)))
    store_detections(teacher, data, tmp_path / "boxes", short_side=64, long_side=64)
    for other in (Fixed(offers=("features",)), str(tmp_path / "boxes")):
        with pytest.raises(DetdistillError, match="boxes"):
            store_detections(other, data, tmp_path / "again")


def test_a_folder_of_other_files_is_refused_and_what_a_crash_left_is_not(data: Path, tmp_path: Path) -> None:
    teacher = Fixed(boxes_of((1, 1, 9, 9, 0, 0.5)))
    out, file = tmp_path / "boxes", tmp_path / "file"
    file.write_text("")
    for place, named in ((data, FILE_NAME), (file, "file")):
        with pytest.raises(DetdistillError, match=named):
            store_detections(teacher, data, place, short_side=64, long_side=64)
    out.mkdir()
    for name in ("boxes-0123456789abcdef.safetensors", ".detections.json.17.tmp"):
        (out / name).write_bytes(b"half")
    found = store_detections(teacher, DatasetSource(data, "val"), out, short_side=64, long_side=64)
    assert found.predicted == {"val": 4}


def test_the_detector_of_a_given_teacher_is_left_as_it_was(data: Path, tmp_path: Path) -> None:
    detector = confident(tiny_detector("gfl", ("green", "red")))
    before = replace(detector.postprocessing)
    teacher = DetectorTeacher(detector)
    store_detections(teacher, DatasetSource(data, "val"), tmp_path / "a", floor=0.01, short_side=64, long_side=64)
    assert detector.postprocessing == before
    assert read_header(tmp_path / "a").floor == 0.01


def test_a_folder_is_of_one_process_at_a_time(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "boxes"

    class Nested(Fixed):
        def guide(self, batch: TeacherBatch) -> Guidance:
            with pytest.raises(DetdistillError, match="in use"):
                store_detections(Fixed(*self.boxes), DatasetSource(data, "val"), out, short_side=64, long_side=64)
            return super().guide(batch)

    teacher = Nested(boxes_of((1, 1, 9, 9, 0, 0.5)))
    assert store_detections(teacher, data, out, short_side=64, long_side=64).predicted == {"train": 8, "val": 4}
    assert len(boxes_in(out, data, "val")) == 4
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_several_processes_are_refused(data: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(DetdistillError, match="torchrun"):
        store_detections(run, data, tmp_path / "boxes")


def test_images_without_annotations_are_one_split_beside_those_of_a_dataset(
    data: Path, run: Path, tmp_path: Path
) -> None:
    """So that a student can learn from both with stored boxes, whose images may have the same names."""
    more = write_boxes(tmp_path / "more", train=3, side=80) / "train"
    other = write_boxes(tmp_path / "other", train=5, side=72) / "train"
    for source in (data, more, other):
        store_detections(run, source, tmp_path / "stored", options=InferenceOptions(2))
    header = read_header(tmp_path / "stored")
    plain = plain_images([more, other])
    train = open_dataset(data, "train")
    joined = ImageTable.joined([train.images, plain.images])
    mixed = replace(train, images=joined, num_labelled=len(train.images))
    boxes = read_detections(tmp_path / "stored", header).boxes_of(mixed)
    teacher = load_teacher(str(run), train)
    for number, record in enumerate(joined):
        one = replace(train, images=joined.take([number]))
        batch = next(iter(evaluation_loader(one, ImageOptions(short_side=96, long_side=96), batch_size=1)))
        (expected,) = teacher.guide(TeacherBatch(batch.images, batch.targets.sizes, frozenset({"boxes"}))).set_of_boxes
        found = boxes[number]
        assert found.labels.tolist() == expected.labels.tolist()
        torch.testing.assert_close(found.boxes * 96 / record.height, expected.boxes, atol=0.02, rtol=0)


def test_a_folder_without_images_is_told_as_no_dataset(run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no annotated dataset"):
        store_detections(run, tmp_path / "empty", tmp_path / "stored")
