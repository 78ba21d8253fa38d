from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.core.settings import from_values
from detdistill.teachers.onnx.onnx_card import Card
from detdistill.teachers.onnx.onnx_input import PlacedImages, placed
from detdistill.teachers.onnx.onnx_rows import Rows, boxes_of_rows, read_rows
from support.onnx_files import f32

FILE = Path("model.onnx")
BOX = [[8.0, 16.0, 24.0, 32.0]]


def card(classes: int = 2, **outputs: Any) -> Card:
    values = {
        "signature": "given",
        "classes": [f"class {label}" for label in range(classes)],
        "input": {
            "image": "images",
            "size": [64, 64],
            "pixel_range": "0..1",
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "resize": "letterbox",
            "pad_color": [114, 114, 114],
        },
        "outputs": {
            "boxes": "boxes",
            "scores": "scores",
            "box_format": "xyxy",
            "box_unit": "input",
            "score_kind": "probability",
            **outputs,
        },
        "sha256": "",
    }
    return from_values(Card, values)


def images(own: Card, size: tuple[int, int] = (64, 64), count: int = 1) -> PlacedImages:
    pixels = torch.zeros(count, 3, *size, dtype=torch.uint8)
    return placed(pixels, torch.tensor([size] * count), own.input, keep_place=False)


def read(own: Card, size: tuple[int, int] = (64, 64), **values: Any) -> Rows:
    return read_rows(FILE, own, {name: value[None] for name, value in values.items()}, images(own, size))


@pytest.mark.parametrize(
    ("outputs", "box"),
    [
        ({}, [8, 16, 24, 32]),
        ({"box_format": "cxcywh"}, [16, 24, 16, 16]),
        ({"box_unit": "relative"}, [0.125, 0.25, 0.375, 0.5]),
        ({"box_unit": "relative", "box_format": "cxcywh"}, [0.25, 0.375, 0.25, 0.25]),
        ({"box_unit": "original"}, [8, 16, 24, 32]),
    ],
)
def test_every_way_to_write_a_box(outputs: dict[str, Any], box: list[float]) -> None:
    rows = read(card(**outputs), boxes=f32([box]), scores=f32([[0.5, 0.25]]))
    assert rows.boxes.tolist() == [BOX]


def test_boxes_of_a_letterbox_come_back_to_the_canvas() -> None:
    rows = read(card(), (16, 32), boxes=f32([[0, 16, 64, 48]]), scores=f32([[0.5, 0.25]]))
    assert rows.boxes.tolist() == [[[0.0, 0.0, 32.0, 16.0]]]
    relative = read(card(box_unit="relative"), (16, 32), boxes=f32([[0.5, 0.5, 1, 0.75]]), scores=f32([[0.5, 0.25]]))
    assert relative.boxes.tolist() == [[[16.0, 8.0, 32.0, 16.0]]]


def test_every_kind_of_score() -> None:
    logits = f32([[2.0, -1.0, 0.5]])
    boxes = f32(BOX)
    kept = torch.tensor([0, 2])
    found = read(card(score_kind="logit", dropped=[1]), boxes=boxes, scores=logits)
    assert torch.equal(found.logits[0], torch.from_numpy(logits)[:, kept])
    assert torch.allclose(found.probabilities[0], torch.from_numpy(logits).sigmoid()[:, kept])
    found = read(card(score_kind="softmax", dropped=[0]), boxes=boxes, scores=logits)
    assert torch.allclose(found.probabilities[0], torch.from_numpy(logits).softmax(dim=1)[:, 1:])
    assert torch.allclose(found.logits.sigmoid(), found.probabilities, atol=1e-6)
    found = read(card(dropped=[2]), boxes=boxes, scores=f32([[0.25, 0.5, 1.0]]))
    assert found.probabilities.tolist() == [[[0.25, 0.5]]]
    infinite = read(card(score_kind="logit"), boxes=boxes, scores=f32([[-np.inf, 3.0]]))
    assert infinite.logits.isfinite().all()
    assert infinite.probabilities[0, 0, 0] < 1e-6


def test_half_precision_and_one_value_a_row() -> None:
    own = card(labels="labels", dropped=[0])
    values: dict[str, Any] = {"scores": np.array([[0.5], [0.25]], np.float16), "labels": np.array([[1], [2]], np.int32)}
    rows = read(own, boxes=np.array(BOX * 2, np.float16), **values)
    assert rows.probabilities.tolist() == [[[0.5, 0.0], [0.0, 0.25]]]


@pytest.mark.parametrize("rows_last", [False, True])
def test_a_score_beside_the_box_with_or_without_its_label(rows_last: bool) -> None:
    both = f32([[8, 16, 24, 32, 0.5, 1], [0, 0, 8, 8, 0.25, 0]])
    expected = [[0.0, 0.5], [0.25, 0.0]]
    outputs: dict[str, Any] = {"boxes": "boxes", "scores": "boxes", "rows_last": rows_last}
    turned = both.T if rows_last else both
    joined = read(card(labels="boxes", **outputs), boxes=np.ascontiguousarray(turned))
    assert (joined.boxes[0, 0].tolist(), joined.probabilities[0].tolist()) == (BOX[0], expected)
    turned = both[:, :5].T if rows_last else both[:, :5]
    apart = read(card(labels="labels", **outputs), boxes=np.ascontiguousarray(turned), labels=np.array([1, 0]))
    assert (apart.boxes[0, 0].tolist(), apart.probabilities[0].tolist()) == (BOX[0], expected)


@pytest.mark.parametrize(
    ("word", "outputs", "values"),
    [
        ("boxes", {}, {"boxes": f32([[np.inf, 0, 1, 1]])}),
        ("boxes", {}, {"boxes": f32([[np.nan, 0, 1, 1]])}),
        ("scores", {}, {"scores": f32([[np.nan, 0]])}),
        ("scores", {}, {"scores": f32([[1.5, 0]])}),
        ("scores", {}, {"scores": f32([[-0.5, 0]])}),
        ("scores", {}, {"scores": f32([[0.5, 0, 0]])}),
        ("scores", {}, {"scores": f32([[0.5, 0], [0.5, 0]])}),
        ("labels", {"labels": "labels"}, {"scores": f32([0.5]), "labels": f32([2])}),
        ("labels", {"labels": "labels"}, {"scores": f32([0.5]), "labels": f32([-1])}),
        ("labels", {"labels": "labels"}, {"scores": f32([0.5]), "labels": f32([0.5])}),
        ("labels", {"labels": "labels"}, {"scores": f32([0.5]), "labels": f32([0, 0])}),
    ],
)
def test_values_that_the_card_excludes(word: str, outputs: dict[str, Any], values: dict[str, Any]) -> None:
    given = {"boxes": f32(BOX), "scores": f32([[0.5, 0.25]])} | values
    with pytest.raises(DetdistillError, match=rf"model\.onnx: output {word}"):
        read(card(**outputs), **given)


def test_another_number_of_images_is_refused() -> None:
    own = card()
    values = {"boxes": f32([BOX, BOX]), "scores": f32([[[0.5, 0.25]]] * 2)}
    with pytest.raises(DetdistillError, match="2 images"):
        read_rows(FILE, own, values, images(own))


def test_rows_without_a_detection_may_hold_anything() -> None:
    own = card(labels="labels", floor=0.25)
    rows = read(own, boxes=f32(BOX * 3), scores=f32([0.5, -1, 0.125]), labels=f32([1, -1, 99]))
    (found,) = boxes_of_rows(rows, own, torch.tensor([[64, 64]]))
    assert (found.labels.tolist(), found.scores.tolist(), found.floor) == ([1], [0.5], 0.25)


def test_boxes_are_cut_sorted_and_those_without_area_left_out() -> None:
    boxes = torch.tensor(
        [[[-8.0, 4.0, 8.0, 90.0], [70.0, 0.0, 80.0, 8.0], [9.0, 9.0, 9.0, 12.0], [0.0, 0.0, 4.0, 4.0]]]
    )
    probabilities = torch.tensor([[[0.25, 0.5], [1.0, 0.0], [1.0, 0.0], [0.75, 0.0]]])
    (found,) = boxes_of_rows(Rows(boxes, probabilities, probabilities), card(), torch.tensor([[48, 64]]))
    assert found.boxes.tolist() == [[0.0, 0.0, 4.0, 4.0], [0.0, 4.0, 8.0, 48.0]]
    assert found.labels.tolist() == [0, 1]
    assert found.probabilities.tolist() == [[0.75, 0.0], [0.25, 0.5]]


def test_an_image_without_rows() -> None:
    own = card(merge_equal_boxes=True)
    rows = read(own, boxes=np.zeros((0, 4), np.float32), scores=np.zeros((0, 2), np.float32))
    (found,) = boxes_of_rows(rows, own, torch.tensor([[64, 64]]))
    assert (found.boxes.shape, found.probabilities.shape) == ((0, 4), (0, 2))


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.integers(1, 16)), min_size=1, max_size=12))
def test_merged_rows_keep_the_best_score_of_every_class(pairs: list[tuple[int, int, int]]) -> None:
    """Each pair is the number of a box, a class, and sixteenths of a score."""
    own = card(labels="labels", merge_equal_boxes=True)
    boxes = f32([[4 * box, 0, 4 * box + 8, 8] for box, _, _ in pairs])
    scores, labels = f32([score / 16 for _, _, score in pairs]), np.array([label for _, label, _ in pairs])
    (found,) = boxes_of_rows(read(own, boxes=boxes, scores=scores, labels=labels), own, torch.tensor([[64, 64]]))
    expected: dict[int, list[float]] = {}
    for box, label, score in pairs:
        own_scores = expected.setdefault(box, [0.0, 0.0])
        own_scores[label] = max(own_scores[label], score / 16)
    assert {
        int(box[0]) // 4: row for box, row in zip(found.boxes.tolist(), found.probabilities.tolist(), strict=True)
    } == (expected)
    assert found.scores.tolist() == sorted((max(row) for row in expected.values()), reverse=True)
