from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.core.input_spec import InputSpec
from detdistill.teachers.teacher import Guidance
from detdistill.teachers.transformers.transformers_families import FAMILIES
from detdistill.teachers.transformers.transformers_folder import read_folder
from detdistill.teachers.transformers.transformers_teacher import TransformersTeacher
from support.transformers_batches import BOXES, EVERY, batch, own_numbers
from support.transformers_models import CLASSES, QUERIES, SIDE

Loaded = Callable[[str], TransformersTeacher]
Processed = Callable[..., TransformersTeacher]


@pytest.mark.parametrize("family", EVERY)
def test_detections_are_those_of_transformers(family: str, loaded: Loaded) -> None:
    """An image that fills the canvas and one that does not, whose boxes the processor gives in its own pixels."""
    given = batch((SIDE, SIDE), (96, 112), wanted=BOXES)
    found = loaded(family).guide(given)
    assert found.output is None
    for number, boxes in enumerate(found.set_of_boxes):
        output, processor, size = own_numbers(loaded(family), given, number)
        expected = processor.post_process_object_detection(output, threshold=-1, target_sizes=[size])[0]
        order = expected["scores"].argsort(descending=True, stable=True)[:QUERIES]
        own = boxes.detections()
        assert own.boxes.dtype == own.scores.dtype == torch.float32
        torch.testing.assert_close(own.scores[:QUERIES], expected["scores"][order], rtol=1e-4, atol=1e-6)
        assert own.labels[:QUERIES].tolist() == expected["labels"][order].tolist()
        torch.testing.assert_close(own.boxes[:QUERIES], expected["boxes"][order], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("rt_detr", {}),
        ("rt_detr", {"size": {"height": 160, "width": 96}, "resample": 3, "do_normalize": True}),
        ("detr", {"size": {"shortest_edge": 64, "longest_edge": 100}}),
        ("yolos", {"size": {"shortest_edge": 64, "longest_edge": 100}, "do_rescale": False}),
    ],
)
def test_pixels_are_those_that_the_processor_makes_of_a_picture(
    family: str, options: dict[str, Any], processed: Processed
) -> None:
    """A picture of PIL, as users of transformers pass it."""
    teacher: Any = processed(family, **options)
    given = batch((96, 112), (SIDE, 70))
    for piece in teacher._reader.pieces(given):
        (number,) = piece.numbers
        height, width = given.sizes[number].tolist()
        picture = Image.fromarray(given.images[number, :, :height, :width].permute(1, 2, 0).numpy())
        expected = teacher._reader._processor(images=picture, return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(piece.inputs["pixel_values"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", EVERY)
def test_all_queries_are_there_with_all_classes(family: str, loaded: Loaded) -> None:
    given = batch((96, 112), wanted=BOXES)
    boxes = loaded(family).guide(given).set_of_boxes[0]
    output, _, _ = own_numbers(loaded(family), given, 0)
    softmax = FAMILIES[family].activation == "softmax"
    expected = (output.logits.softmax(-1)[..., :-1] if softmax else output.logits.sigmoid())[0]
    assert boxes.floor == 0
    assert boxes.probabilities.shape[1] == len(CLASSES)
    assert (boxes.scores.diff() <= 0).all()
    distance = torch.cdist(expected, boxes.probabilities, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distance.amin(dim=1) < 1e-4).all()
    assert (distance.amin(dim=0) < 1e-4).all()


def test_an_image_is_predicted_as_if_it_were_alone(loaded: Loaded) -> None:
    sizes = (SIDE, SIDE), (64, 100), (SIDE, SIDE), (100, 64)
    for family in ("rt_detr", "detr"):
        teacher, given = loaded(family), batch(*sizes)
        together = teacher.guide(given)
        again = Guidance.joined([together.of_image(number) for number in range(len(sizes))])
        assert torch.equal(again.dense.features.maps[0], together.dense.features.maps[0])
        for number in range(len(sizes)):
            alone = teacher.guide(given.of_images([number]))
            own = together.of_image(number)
            torch.testing.assert_close(own.set_of_boxes[0].boxes, alone.set_of_boxes[0].boxes, rtol=1e-4, atol=1e-3)
            for mine, expected in zip(own.dense.features.maps, alone.dense.features.maps, strict=True):
                torch.testing.assert_close(mine, expected, rtol=1e-4, atol=1e-4)


def test_a_processor_that_does_not_resize_reads_the_whole_canvas(processed: Processed) -> None:
    teacher: Any = processed("rt_detr", do_resize=False)
    canvas = 160, 192
    given = batch((100, 192), (160, 96), canvas=canvas)
    found = teacher.guide(given)
    with torch.no_grad():
        raw = teacher._model(given.images / 255)
    torch.testing.assert_close(found.dense.predictions.logits, raw.enc_outputs_class, rtol=1e-4, atol=1e-5)
    assert found.dense.features.strides == ((8, 8), (16, 16), (32, 32))
    center, sides = (raw.pred_boxes * torch.tensor([192, 160, 192, 160])).split(2, dim=-1)
    expected = torch.cat((center - sides / 2, center + sides / 2), dim=-1)
    for number, boxes in enumerate(found.boxes):
        distance = torch.cdist(expected[number], boxes.boxes, compute_mode="donot_use_mm_for_euclid_dist")
        assert (distance.amin(dim=1) < 1e-3).all()
    assert "as large as on their canvas" in teacher.notes(InputSpec())[0]
    assert teacher.size is None


@pytest.mark.parametrize("family", ["detr", "yolos"])
def test_a_processor_that_keeps_the_ratio(family: str, processed: Processed) -> None:
    """Shorter side 96, longer at most 128, in images of several sizes: none is padded for another's sake."""
    teacher = processed(family, size={"shortest_edge": 96, "longest_edge": SIDE})
    assert teacher.size == ImageSize(96, SIDE)
    given = batch((60, 100), (100, 80), (SIDE, 40))
    found = teacher.guide(given)
    for number, boxes in enumerate(found.set_of_boxes):
        output, processor, size = own_numbers(teacher, given, number)
        expected = processor.post_process_object_detection(output, threshold=-1, target_sizes=[size])[0]
        best = expected["scores"].argmax()
        torch.testing.assert_close(boxes.scores[0], expected["scores"][best], rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(boxes.boxes[0], expected["boxes"][best], rtol=1e-4, atol=1e-3)
    if found.output is not None:
        assert {len(features) for features in found.output.features.maps} == {3}


def test_boxes_relative_to_a_padded_input_are_put_back(processed: Processed) -> None:
    """The processor pads 64 x 128 to 128 x 128: the model's boxes are shares of the padded input."""
    padded = {"height": SIDE, "width": SIDE}
    size = {"shortest_edge": 64, "longest_edge": SIDE}
    teacher: Any = processed("rt_detr", size=size, do_pad=True, pad_size=padded)
    given = batch((32, 64), canvas=(64, 64))
    found = teacher.guide(given)
    read = teacher._reader.pieces(given)[0]
    assert (read.frame.network, read.frame.padded) == ((64, SIDE), (SIDE, SIDE))
    with torch.no_grad():
        raw = teacher._model(read.inputs["pixel_values"])
    center, sides = (raw.pred_boxes[0] * SIDE / 2).split(2, dim=-1)
    expected = torch.cat((center - sides / 2, center + sides / 2), dim=-1)
    distance = torch.cdist(expected, found.set_of_boxes[0].boxes, compute_mode="donot_use_mm_for_euclid_dist")
    assert (distance.amin(dim=1) < 1e-3).all()
    assert [step for step, _ in found.dense.features.strides] == [8, 16, 32]


def test_autocast_does_not_touch_a_teacher(loaded: Loaded) -> None:
    for family in ("rt_detr", "d_fine"):
        plain = loaded(family).guide(batch((SIDE, SIDE)))
        with torch.autocast("cpu", torch.bfloat16):
            found = loaded(family).guide(batch((SIDE, SIDE)))
        assert found.set_of_boxes[0].boxes.dtype == torch.float32
        assert torch.equal(found.set_of_boxes[0].boxes, plain.set_of_boxes[0].boxes)
        assert torch.equal(found.dense.predictions.boxes(), plain.dense.predictions.boxes())


@pytest.mark.parametrize("family", ["rt_detr", "detr"])
def test_slots_that_stand_for_no_class_are_left_out(family: str, loaded: Loaded, saved: Callable[[str], Path]) -> None:
    plain: Any = loaded(family)
    folder = replace(read_folder(saved(family)), classes=("other", "cell"), columns=(2, 0))
    teacher = TransformersTeacher("tiny", folder, plain._model, plain._reader._processor)
    assert teacher.classes == ("other", "cell")
    given = batch((SIDE, SIDE))
    found, whole = teacher.guide(given), plain.guide(given)
    distance = torch.cdist(
        whole.set_of_boxes[0].probabilities[:, [2, 0]],
        found.set_of_boxes[0].probabilities,
        compute_mode="donot_use_mm_for_euclid_dist",
    )
    assert (distance.amin(dim=1) < 1e-6).all()
    assert any("1 slots" in note for note in teacher.notes(InputSpec()))
    if family == "rt_detr":
        assert torch.equal(found.dense.predictions.logits, whole.dense.predictions.logits[..., [2, 0]])
    wrong = replace(folder, slots=4)
    with pytest.raises(DetdistillError, match="id2label"):
        TransformersTeacher("tiny", wrong, plain._model, plain._reader._processor).guide(given)


def test_a_teacher_is_frozen_and_never_copied(loaded: Loaded) -> None:
    teacher: Any = loaded("rt_detr")
    assert copy.deepcopy(teacher) is teacher
    assert not teacher._model.training
    assert not any(parameter.requires_grad for parameter in teacher._model.parameters())
    assert teacher.kind == "rt_detr"
    assert teacher.classes == CLASSES
    found = teacher.guide(batch((SIDE, SIDE)))
    student = torch.ones(1, requires_grad=True)
    (found.dense.features.maps[0].sum() * student).backward()  # tensors of inference mode could not be used here
    assert student.grad is not None


def test_a_note_tells_the_size_and_what_becomes_of_the_maps(loaded: Loaded) -> None:
    (with_maps,), (without,) = (loaded(family).notes(InputSpec()) for family in ("rt_detr", "yolos"))
    assert "128x128" in with_maps
    assert "128x128" in without
    assert "resampled" in with_maps
    assert "resampled" not in without


def test_only_what_is_wanted_is_returned(loaded: Loaded) -> None:
    teacher = loaded("rt_detr")
    assert teacher.guide(batch((SIDE, SIDE), wanted=frozenset({"features"}))).boxes is None
    assert teacher.guide(batch((SIDE, SIDE), wanted=frozenset({"opinions"}))).output is None


def test_a_size_that_the_model_does_not_read_names_the_file(processed: Processed) -> None:
    teacher = processed("rt_detr", size={"height": 100, "width": 100})
    with pytest.raises(DetdistillError, match=r"100x100(?s:.)*size in .*preprocessor_config\.json"):
        teacher.guide(batch((SIDE, SIDE)))
