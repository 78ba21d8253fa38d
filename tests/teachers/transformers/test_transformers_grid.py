"""Cells and maps of detectors of transformers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.teachers.transformers.transformers_teacher import TransformersTeacher, load_transformers
from support.transformers_batches import BOXES, GRIDS, batch, own_numbers, params
from support.transformers_models import GRID_FAMILIES, QUERIES, SIDE

Loaded = Callable[[str], TransformersTeacher]
Processed = Callable[..., TransformersTeacher]


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
