from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.core.settings import from_values
from detdistill.detectors.postprocess import PostProcessing
from detdistill.teachers.onnx.onnx_card import CARD, Card, read_card, write_card


def values(**outputs: Any) -> dict[str, Any]:
    return {
        "signature": "given",
        "classes": ["a", "b"],
        "input": {
            "image": "images",
            "size": [64, 96],
            "pixel_range": "0..1",
            "mean": [0, 0, 0],
            "std": [1, 1, 1],
            "resize": "stretch",
        },
        "outputs": {
            "boxes": "boxes",
            "scores": "scores",
            "box_format": "xyxy",
            "box_unit": "input",
            "score_kind": "logit",
            **outputs,
        },
        "sha256": "0" * 64,
    }


def test_a_card_comes_back(tmp_path: Path) -> None:
    card = from_values(Card, values(dropped=[1], nms={"score_threshold": 0.25}, floor=0.1))
    write_card(tmp_path, card)
    assert read_card(tmp_path) == card
    assert card.outputs.nms == PostProcessing(score_threshold=0.25)
    assert (card.num_slots, card.class_slots) == (3, [0, 2])
    assert card.outputs.known_above == 0.25
    assert json.loads((tmp_path / CARD).read_text(encoding="utf-8"))["format"] == 1


@pytest.mark.parametrize(
    ("field", "outputs"),
    [
        ("score_kind", {"labels": "labels", "score_kind": "softmax"}),
        ("score_kind", {"score_kind": "sigmoid"}),
        ("grid", {"labels": "labels", "score_kind": "probability", "grid": [8]}),
        ("grid", {"grid": []}),
        ("dropped", {"score_kind": "softmax"}),
        ("dropped", {"dropped": [1, 1]}),
        ("dropped", {"dropped": [-1]}),
        ("rows_last", {"rows_last": True}),
        ("labels", {"labels": "boxes", "score_kind": "probability"}),
        ("labels", {"labels": "scores", "score_kind": "probability"}),
        ("floor", {"floor": 1.5}),
        ("box_units", {"box_units": "input"}),
    ],
)
def test_values_that_contradict_each_other_are_refused(field: str, outputs: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(json.dumps({"format": 1, **values(**outputs)}), encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_card(tmp_path)
    assert str(tmp_path / CARD) in str(caught.value)
    assert field in caught.value.problems


@pytest.mark.parametrize("classes", [[], ["a", "a"]])
def test_classes_are_names_that_differ(classes: list[str]) -> None:
    with pytest.raises(SettingsError, match="classes"):
        from_values(Card, values() | {"classes": classes})


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 0}', '{"format": 2}', '{"format": "1"}'])
def test_a_card_that_is_none_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / CARD).write_text(content, encoding="utf-8")
    with pytest.raises(DetdistillError) as caught:
        read_card(tmp_path)
    assert str(tmp_path / CARD) in str(caught.value)


def test_a_card_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=CARD):
        read_card(tmp_path)
