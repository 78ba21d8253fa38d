from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.input_spec import InputSpec
from detdistill.core.offers import Offer
from detdistill.teachers.teacher import Guidance, TeacherBatch
from detdistill.teachers.transformers_families import FAMILIES
from detdistill.teachers.transformers_folder import read_folder
from detdistill.teachers.transformers_teacher import TransformersTeacher, load_transformers
from support.transformers_models import CLASSES, GRID_FAMILIES, QUERIES, SIDE

Loaded = Callable[[str], TransformersTeacher]
Processed = Callable[..., TransformersTeacher]
ALL: frozenset[Offer] = frozenset({"features", "grid", "boxes", "opinions"})
BOXES: frozenset[Offer] = frozenset({"boxes", "opinions"})
RARE = ("rt_detr_v2", "deimv2", "deformable_detr", "table-transformer", "conditional_detr", "dab-detr", "lw_detr")


def params(*families: str) -> list[Any]:
    """Families; those whose code is like others' only among the slow tests."""
    return [pytest.param(family, marks=[pytest.mark.slow] if family in RARE else []) for family in families]


EVERY, GRIDS = params(*FAMILIES), params(*GRID_FAMILIES)


def batch(
    *sizes: tuple[int, int], canvas: tuple[int, int] = (SIDE, SIDE), wanted: frozenset[Offer] = ALL
) -> TeacherBatch:
    """Random images on a canvas, 0 beyond them."""
    images = torch.zeros(len(sizes), 3, *canvas, dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    return TeacherBatch(images, torch.tensor(sizes), wanted)


def own_numbers(teacher: Any, given: TeacherBatch, number: int) -> tuple[Any, Any, tuple[int, int]]:
    """What transformers makes of one image of a batch by itself: its outputs, its processor and the image's size."""
    height, width = given.sizes[number].tolist()
    processor = teacher._reader._processor
    inputs = processor(images=given.images[number, :, :height, :width].permute(1, 2, 0).numpy(), return_tensors="pt")
    with torch.no_grad():
        return teacher._model(pixel_values=inputs["pixel_values"]), processor, (height, width)


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


@pytest.mark.parametrize("family", GRIDS)
def test_the_grid_is_the_encoders_view_of_all_cells(family: str, loaded: Loaded) -> None:
    given = batch((SIDE, SIDE))
    output = loaded(family).guide(given).dense
    raw, _, _ = own_numbers(loaded(family), given, 0)
    assert output.features.strides == ((8, 8), (16, 16), (32, 32))
    for own, expected in zip(output.features.maps, raw.encoder_last_hidden_state, strict=True):
        torch.testing.assert_close(own, expected, rtol=1e-4, atol=1e-5)
    predictions = output.predictions
    torch.testing.assert_close(predictions.class_logits, raw.enc_outputs_class, rtol=1e-4, atol=1e-5)
    center, sides = (raw.enc_outputs_coord_logits.sigmoid() * SIDE).split(2, dim=-1)
    expected = torch.cat((center - sides / 2, center + sides / 2), dim=-1)
    torch.testing.assert_close(predictions.boxes(), expected, rtol=1e-4, atol=1e-3)
    # Queries are the cells with the best logit of any class, and start from their boxes.
    best = predictions.class_logits.amax(dim=-1)[0].topk(QUERIES)
    torch.testing.assert_close(best.values, raw.enc_topk_logits.amax(dim=-1)[0], rtol=1e-4, atol=1e-5)
    center, sides = (raw.enc_topk_bboxes[0] * SIDE).split(2, dim=-1)
    expected = torch.cat((center - sides / 2, center + sides / 2), dim=-1)
    torch.testing.assert_close(predictions.boxes()[0, best.indices], expected, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("family", GRIDS)
def test_priors_are_the_models_anchors(family: str, loaded: Loaded) -> None:
    teacher: Any = loaded(family)
    grid = teacher.guide(batch((SIDE, SIDE))).dense.predictions.grid
    anchors, valid = teacher._model.model.generate_anchors(grid.sizes)
    assert valid.all()
    center, sides = (anchors[0].sigmoid() * SIDE).split(2, dim=-1)
    torch.testing.assert_close(grid.priors, torch.cat((center - sides / 2, center + sides / 2), dim=-1))


@pytest.mark.parametrize("family", GRIDS)
@pytest.mark.parametrize(("level", "row", "column"), [(0, 5, 7), (1, 3, 6), (2, 2, 1)])
def test_a_change_in_a_cell_changes_the_prediction_of_that_cell_alone(
    family: str, level: int, row: int, column: int, loaded: Loaded
) -> None:
    teacher: Any = loaded(family)
    given = batch((SIDE, SIDE))
    before = teacher.guide(given).dense.predictions

    def add(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, :, row, column] += 1 + torch.arange(output.shape[1])
        return output

    hook = teacher._model.model.decoder_input_proj[level].register_forward_hook(add)
    try:
        after = teacher.guide(given).dense.predictions
    finally:
        hook.remove()
    changed = (before.class_logits != after.class_logits).any(dim=-1)[0].nonzero().flatten()
    assert changed.tolist() == [int(before.grid.prior_index(*map(torch.tensor, (level, row, column))))]


@pytest.mark.parametrize(
    "family", ["rt_detr", *(pytest.param(family, marks=pytest.mark.slow) for family in GRID_FAMILIES[1:])]
)
def test_cells_that_the_model_masks_do_not_count(family: str, processed: Processed) -> None:
    """From 400 pixels on the finest level's outer ring has priors that lie too near to the border."""
    side = 416
    teacher: Any = processed(family, size={"height": side, "width": side})
    predictions = teacher.guide(batch((side, side), canvas=(side, side))).dense.predictions
    _, unmasked = teacher._model.model.generate_anchors(predictions.grid.sizes)
    valid = predictions.candidates.valid
    assert valid is not None
    assert torch.equal(valid[0], unmasked[0, :, 0])
    assert 0 < int((~valid).sum()) == 4 * (side // 8 - 1)
    assert (predictions.class_logits[~valid] == -20).all()
    assert torch.equal(predictions.boxes()[~valid], predictions.grid.priors[~valid[0]])
    assert (predictions.scores()[~valid] == 0).all()
    assert predictions.boxes().isfinite().all()


@pytest.mark.parametrize("family", GRIDS)
def test_a_stretched_image_is_put_back_on_its_canvas(family: str, loaded: Loaded) -> None:
    """Each cell of the canvas has the prediction of the network's cell that covers its centre."""
    height, width = 96, 120
    given = batch((height, width), (SIDE, SIDE))
    predictions = loaded(family).guide(given).dense.predictions
    raw, _, _ = own_numbers(loaded(family), given, 0)
    center, sides = raw.enc_outputs_coord_logits[0].sigmoid().split(2, dim=-1)
    boxes = torch.cat((center - sides / 2, center + sides / 2), dim=-1) * torch.tensor([width, height, width, height])
    start, compared = 0, 0
    assert predictions.candidates.valid is not None
    for level, (rows, columns) in enumerate(predictions.grid.sizes):
        stride = predictions.grid.strides[level][0]
        for row in range(0, rows, 2):
            for column in range(0, columns, 2):
                own = int(predictions.grid.prior_index(*map(torch.tensor, (level, row, column))))
                y, x = (row + 0.5) * stride / height, (column + 0.5) * stride / width
                assert bool(predictions.candidates.valid[0, own]) == (x < 1 and y < 1)
                if x < 1 and y < 1:
                    theirs = start + int(y * rows) * columns + int(x * columns)
                    torch.testing.assert_close(
                        predictions.logits[0, own], raw.enc_outputs_class[0, theirs], rtol=1e-4, atol=1e-5
                    )
                    torch.testing.assert_close(predictions.boxes()[0, own], boxes[theirs], rtol=1e-4, atol=1e-3)
                    compared += 1
        start += rows * columns
    assert compared > 50


def test_strides_follow_the_canvas(loaded: Loaded) -> None:
    """Twice the canvas, the same 128 pixels in the network: a cell covers twice as much."""
    for canvas, strides in (((256, 256), [16, 32, 64]), ((64, 64), [4, 8, 16]), ((96, 160), [8, 16, 32])):
        output = loaded("rt_detr").guide(batch(canvas, canvas=canvas)).dense
        assert [step for step, _ in output.features.strides] == strides
        for (height, width), features in zip(output.predictions.grid.sizes, output.features.maps, strict=True):
            assert features.shape[-2:] == (height, width)


STRIDES = {
    "rf_detr": [16],
    "detr": [32],
    "table-transformer": [32],
    "conditional_detr": [32],
    "dab-detr": [32],
    "deformable_detr": [8, 16, 32, 64],
    "yolos": None,
    "lw_detr": None,
}


@pytest.mark.parametrize("family", params(*STRIDES))
def test_maps_of_families_without_a_grid(family: str, loaded: Loaded) -> None:
    teacher, strides = loaded(family), STRIDES[family]
    assert "grid" not in teacher.offers
    output = teacher.guide(batch((SIDE, SIDE))).output
    if strides is None:
        assert teacher.offers == BOXES
        assert output is None
        return
    assert teacher.offers == BOXES | {"features"}
    assert output is not None
    assert not output.stages
    assert [step for step, _ in output.features.strides] == strides
    assert [features.shape[-1] for features in output.features.maps] == [SIDE // stride for stride in strides]
    assert all(features.std(dim=(2, 3)).amax() > 0 for features in output.features.maps)


@pytest.mark.parametrize("family", params("detr", "deformable_detr", "conditional_detr", "dab-detr"))
def test_tokens_are_cells_row_by_row(family: str, saved: Callable[[str], Path]) -> None:
    """What is added to a cell before the encoder, which has no layers here, changes that cell of the map alone."""
    teacher: Any = load_transformers(str(saved(family)))
    inner = teacher._model.model
    inner.encoder.layers = torch.nn.ModuleList()
    given = batch((SIDE, SIDE))
    before = teacher.guide(given).dense.features

    def add(_module: Any, _arguments: Any, output: Tensor) -> Tensor:
        output = output.clone()
        output[:, :, 3, 1] += torch.arange(output.shape[1])
        return output

    level = 1 if family == "deformable_detr" else 0
    projection = getattr(inner, "input_proj", None) or inner.input_projection
    (projection[level] if family == "deformable_detr" else projection).register_forward_hook(add)
    after = teacher.guide(given).dense.features
    for number, (own, other) in enumerate(zip(after.maps, before.maps, strict=True)):
        changed = (own != other).any(dim=1)[0].nonzero().tolist()
        assert changed == ([[3, 1]] if number == level else [])


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
    assert "as large as on the student's canvas" in teacher.notes(InputSpec())[0]


@pytest.mark.parametrize("family", ["detr", "yolos"])
def test_a_processor_that_keeps_the_ratio(family: str, processed: Processed) -> None:
    """Shorter side 96, longer at most 128, in images of several sizes: none is padded for another's sake."""
    teacher = processed(family, size={"shortest_edge": 96, "longest_edge": SIDE})
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
