from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageOptions
from detdistill.core.input_spec import InputSpec
from detdistill.core.structures import Targets
from detdistill.data.detections_folder import FILE_NAME, DetectionsHeader, ImagesPart, read_header, write_part
from detdistill.data.loading import training_loader
from detdistill.data.opening import open_dataset
from detdistill.data.stored_detections import BoxColumns
from detdistill.data.stored_images import file_digest
from detdistill.data.teacher_inputs import TeacherInputs
from detdistill.distill.distiller import Distiller
from detdistill.distill.terms.soft_label import SoftLabel
from detdistill.distill.weighting import Weight
from detdistill.teachers.loading import load_teacher, origin_of
from detdistill.teachers.stored_teacher import StoredTeacher
from detdistill.teachers.teacher import TeacherBatch
from support.pairs import gradients
from support.small_runs import write_boxes
from support.stored_boxes import assert_same_boxes, boxes_of, stored_for
from support.tiny_detector import tiny_detector

HEADER = DetectionsHeader(
    classes=("red", "green", "blue"), floor=0.05, top_k=5, teacher={"source": "runs/t", "sha256": "12" * 32}
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("data"))


def write_folder(folder: Path, *parts: tuple[str, DetectionDataset], header: DetectionsHeader = HEADER) -> Path:
    """One box in each image, whose score is that of its number in the dataset."""
    for split, dataset in parts:
        images = dataset.images
        found = [boxes_of((4, 4, 60, 60, 0, 0.1 + number / 100)) for number in range(len(images))]
        digests = torch.tensor([file_digest(Path(path)) or 0 for path in images.paths]).numpy()
        sizes = images.sizes.astype("int32")
        header = write_part(
            folder, header, ImagesPart(split, images.file_names, sizes, digests, BoxColumns.of(found, 5))
        )
    return folder


def write_results(path: Path, **changes: Any) -> Path:
    entry = {"image_id": 0, "category_id": 2, "bbox": [4, 4, 50, 50], "score": 0.04}
    path.write_text(json.dumps([entry, {**entry, "image_id": 3} | changes]))
    return path


def stored_teacher(source: Path, dataset: DetectionDataset) -> StoredTeacher:
    teacher = load_teacher(str(source), dataset)
    assert isinstance(teacher, StoredTeacher)
    return teacher


def test_a_folder_teaches_the_split_that_was_predicted(data: Path, tmp_path: Path) -> None:
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    folder = write_folder(tmp_path / "boxes", ("val", val), ("train", train))
    teacher = stored_teacher(folder, train)
    assert teacher.classes == ("red", "green", "blue")
    assert teacher.offers == {"boxes", "opinions"}
    assert teacher.tower_head is None
    assert teacher.notes(InputSpec()) == []
    for dataset in (train, val):
        assert teacher.stored.covered(dataset).all()
        boxes = teacher.stored.boxes_of(dataset)
        scores = [float(boxes[number].scores) for number in range(len(dataset.images))]
        assert scores == pytest.approx([0.1 + number / 100 for number in range(len(dataset.images))])


def test_the_origin_changes_with_what_decides_the_predictions(data: Path, tmp_path: Path) -> None:
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    folder = write_folder(tmp_path / "boxes", ("train", train))
    first = stored_teacher(folder, train).origin
    assert first["source"] == str(folder)
    assert first["teacher"] == {"source": "runs/t", "sha256": "12" * 32}
    assert json.loads(json.dumps(first)) == first
    everything = origin_of(str(folder))
    write_folder(folder, ("val", val), header=read_header(folder))
    assert stored_teacher(folder, train).origin == first, "another split decides nothing"
    assert stored_teacher(folder, val).origin != first
    assert origin_of(str(folder)) != everything
    others = write_folder(tmp_path / "others", ("train", train), header=replace(HEADER, floor=0.1))
    file = write_results(tmp_path / "found.json")
    hashes = [stored_teacher(source, train).origin["sha256"] for source in (folder, others, file)]
    write_results(file, score=0.9)
    hashes.append(stored_teacher(file, train).origin["sha256"])
    assert len(set(hashes)) == 4


def test_images_that_were_never_predicted_are_counted_and_named(data: Path, tmp_path: Path) -> None:
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    some = replace(train, images=train.images.take([0, 2, 3, 5, 6, 7]))
    teacher = stored_teacher(write_folder(tmp_path / "boxes", ("train", some), ("val", val)), train)
    assert teacher.stored.covered(train).tolist() == [True, False, True, True, False, True, True, True]
    with pytest.raises(DataError, match=r"2 of 8 images .*1\.png, 4\.png"):
        teacher.stored.boxes_of(train)
    other = stored_teacher(write_folder(tmp_path / "val only", ("val", val)), train)
    with pytest.raises(DataError, match=r"8 of 8 images .*0\.png, 1\.png, 2\.png"):
        other.stored.boxes_of(train)


def test_a_results_file_may_lack_images_and_a_note_gives_their_share(data: Path, tmp_path: Path) -> None:
    train, val = open_dataset(data, "train"), open_dataset(data, "val")
    file = write_results(tmp_path / "found.json")
    teacher = stored_teacher(file, train)
    assert teacher.classes == train.classes
    assert teacher.stored.covered(train).all()
    assert not teacher.stored.covered(val).any(), "ids 0 to 3 are others there"
    (note,) = teacher.notes(InputSpec())
    assert note.startswith(f"{file}: 6 of 8 images (75 %)")


@pytest.mark.parametrize(("score", "warns"), [(0.05, False), (0.3, True)])
def test_a_high_floor_is_warned_of(data: Path, tmp_path: Path, score: float, warns: bool) -> None:
    train = open_dataset(data, "train")
    entry = {"category_id": 2, "bbox": [4, 4, 50, 50], "score": score}
    (tmp_path / "found.json").write_text(json.dumps([{**entry, "image_id": number} for number in range(8)]))
    teacher = stored_teacher(tmp_path / "found.json", train)
    assert teacher.stored.floor == pytest.approx(score)
    assert [note.startswith("WARNING: ") for note in teacher.notes(InputSpec())] == [True] * warns


def test_the_boxes_of_the_batch_are_the_guidance(data: Path, tmp_path: Path) -> None:
    train = open_dataset(data, "train")
    teacher = stored_teacher(write_folder(tmp_path / "boxes", ("train", train)), train)
    images, sizes = torch.zeros(2, 3, 64, 64, dtype=torch.uint8), torch.full((2, 2), 64)
    own = boxes_of((1, 2, 3, 4, 0, 0.5)), boxes_of()
    given = teacher.guide(TeacherBatch(images, sizes, frozenset({"boxes"}), own))
    assert given.output is None
    for found, expected in zip(given.set_of_boxes, own, strict=True):
        assert_same_boxes(found, expected)
    nothing = teacher.guide(TeacherBatch(images, sizes, frozenset({"boxes"})))
    assert [len(found) for found in nothing.set_of_boxes] == [0, 0]
    assert nothing.opinions(torch.rand(3, 4), torch.tensor([0, 1, 1])).scores.tolist() == [[0.0] * 3] * 3


@pytest.mark.parametrize("source", ["folder", "file"])
def test_a_student_learns_from_stored_boxes(data: Path, tmp_path: Path, source: str) -> None:
    train = open_dataset(data, "train")
    place = (
        write_folder(tmp_path / "boxes", ("train", train)) if source == "folder" else write_results(tmp_path / "f.json")
    )
    teacher = stored_teacher(place, train)
    student = tiny_detector("retinanet", train.classes)
    distiller = Distiller(student, teacher, {"soft_label": SoftLabel()}, weights={"soft_label": Weight(1.0)})
    options = ImageOptions(short_side=64, long_side=64, scale_jitter=(0.8, 1.2))
    batches = training_loader(train, options, batch_size=8, seed=0, teacher=TeacherInputs(teacher.stored))
    (batch,) = batches
    loss = distiller.train()(batch.images, batch.targets)["soft_label"]
    assert loss.item() > 0
    assert any(gradient.any() for gradient in gradients(student, {"soft_label": loss}).values())
    unguided = replace(batch.targets, stored=None)
    assert distiller(batch.images, unguided)["soft_label"].item() == 0, "no box, no opinion"


def test_a_distiller_is_bound_without_any_batch() -> None:
    dataset = DetectionDataset("none", ("green", "red"), (1, 2), ImageTable.of([]))
    teacher = StoredTeacher(stored_for(dataset, [], dataset.classes), {"source": "none", "sha256": None})
    assert Distiller(tiny_detector("gfl", dataset.classes), teacher, {"soft_label": SoftLabel()}).notes


def test_paths_that_are_no_teacher_are_named(data: Path, tmp_path: Path) -> None:
    train = open_dataset(data, "train")
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / FILE_NAME).write_text("{")
    for source in (tmp_path / "empty", tmp_path / "broken", tmp_path / "missing.json"):
        with pytest.raises(DetdistillError) as refused:
            load_teacher(str(source), train)
        assert str(source) in str(refused.value)


def test_targets_of_part_of_a_batch_keep_their_stored_boxes() -> None:
    boxes = tuple(boxes_of((0, 0, 1 + number, 2, 0, 0.5)) for number in range(3))
    sizes = torch.full((3, 2), 64)
    targets = replace(Targets.from_images([torch.zeros(0, 4)] * 3, [torch.zeros(0)] * 3, sizes), stored=boxes)
    part = targets.of_images(1, 3).to("cpu")
    assert part.stored is not None
    for found, expected in zip(part.stored, boxes[1:], strict=True):
        assert_same_boxes(found, expected)
