from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from detdistill.analysis.error_types import KINDS, errors_of
from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.evaluation.results import Results, to_xywh

Object = tuple[float, float, float, float, int]
Detection = tuple[float, float, float, float, int, float]
A, B = (0.0, 0.0, 100.0, 100.0, 0), (200.0, 0.0, 300.0, 100.0, 1)


def dataset(*objects: Object, crowd: Sequence[bool] = ()) -> DetectionDataset:
    boxes = np.array([each[:4] for each in objects], dtype=float).reshape(-1, 4)
    labels = np.array([each[4] for each in objects], dtype=np.int64)
    flags = np.array(crowd if crowd else [False] * len(objects), dtype=bool)
    sides = boxes[:, 2:] - boxes[:, :2]
    record = ImageRecord(
        1, Path("a.png"), "a.png", 400, 400, boxes, labels, sides.prod(axis=1), flags, np.zeros(len(labels), dtype=bool)
    )
    return DetectionDataset("here", ("cat", "dog"), (1, 2), ImageTable.of([record]))


def results(*detections: Detection) -> Results:
    boxes = np.array([each[:4] for each in detections], dtype=float).reshape(-1, 4)
    return Results(
        np.zeros(len(detections), dtype=np.int64),
        to_xywh(boxes),
        np.array([each[5] for each in detections], dtype=float),
        np.array([each[4] for each in detections], dtype=np.int64),
    )


@pytest.mark.parametrize(
    ("detection", "kind"),
    [
        ((0, 0, 100, 100, 1, 0.9), "classification"),
        ((0, 0, 100, 40, 0, 0.9), "localization"),
        ((0, 0, 100, 40, 1, 0.9), "both"),
        ((310, 310, 390, 390, 0, 0.9), "background"),
    ],
)
def test_each_kind_by_hand(detection: Detection, kind: str) -> None:
    """One object, one detection: its kind, and the object is missed unless it was nearly found."""
    found = errors_of(dataset(A), results(detection))
    nearly = kind in ("classification", "localization")
    assert {name: count for name, count in found.counts.items() if count} == (
        {kind: 1} if nearly else {kind: 1, "missed": 1}
    )


def test_a_second_detection_is_a_duplicate() -> None:
    found = errors_of(dataset(A), results((0, 0, 100, 100, 0, 0.9), (0, 0, 100, 90, 0, 0.8)))
    assert {name: count for name, count in found.counts.items() if count} == {"duplicate": 1}


def test_what_is_all_right_costs_nothing() -> None:
    found = errors_of(dataset(A, B), results((*A, 0.9), (*B, 0.8)))
    assert set(found.counts.values()) == {0}
    assert set(found.costs.values()) == {0.0}


def test_mending_a_kind_gains_what_it_cost() -> None:
    """The dog is taken for a cat: mended, everything is found."""
    found = errors_of(dataset(A, B), results((*A, 0.9), (*B[:4], 0, 0.8)))
    assert found.costs["classification"] == pytest.approx(0.5)
    assert found.costs["localization"] == 0
    found = errors_of(dataset(A, B), results((*A, 0.9), (200, 0, 300, 40, 1, 0.8)))
    assert found.costs["localization"] == pytest.approx(0.5)
    found = errors_of(dataset(A, B), results((*A, 0.9)))
    assert found.costs["missed"] == pytest.approx(0.5)
    found = errors_of(dataset(A), results((310, 310, 390, 390, 0, 0.9), (*A, 0.8)))
    assert found.costs["background"] == pytest.approx(0.5), "the wrong one ranked first halves the precision"


def test_a_wrong_class_on_an_object_that_is_found_is_left_out_when_mended() -> None:
    found = errors_of(dataset(A), results((*A, 0.9), (*A[:4], 1, 0.8)))
    assert found.counts["classification"] == 1
    assert found.counts["missed"] == 0


def test_crowds_are_neither_objects_nor_background() -> None:
    found = errors_of(dataset(A, B, crowd=(False, True)), results((*A, 0.9), (*B, 0.8)))
    assert set(found.counts.values()) == {0}


def test_a_detection_that_lies_in_a_crowd_is_no_error_however_small_it_is() -> None:
    """COCO counts the share of the detection that lies in the crowd, not the IoU."""
    crowd = dataset(A, crowd=(True,))
    assert set(errors_of(crowd, results((0, 0, 20, 20, 0, 0.9))).counts.values()) == {0}
    assert errors_of(crowd, results((0, 0, 250, 100, 0, 0.9))).counts["background"] == 1


def test_errors_stand_with_their_class_and_size() -> None:
    """The cat is found as a dog, the small dog is missed, and there is a small box on nothing."""
    small = (300.0, 300.0, 320.0, 320.0, 1)
    found = errors_of(dataset(A, small), results((*A[:4], 1, 0.9), (10, 300, 30, 320, 0, 0.8)))
    assert {kind: count for kind, count in found.counts_by_size["large"].items() if count} == {"classification": 1}
    small_errors = {kind: count for kind, count in found.counts_by_size["small"].items() if count}
    assert small_errors == {"background": 1, "missed": 1}
    assert found.costs_by_class["cat"]["classification"] == pytest.approx(1.0)
    assert found.costs_by_class["dog"]["missed"] == pytest.approx(1.0), "none is left to find"
    for kind in KINDS:
        assert found.counts[kind] == sum(counts[kind] for counts in found.counts_by_size.values())


def test_nothing_found_and_nothing_there() -> None:
    assert errors_of(dataset(A), results()).counts["missed"] == 1
    nothing = errors_of(dataset(), results((*A, 0.9)))
    assert nothing.counts["background"] == 1
    assert all(nothing.costs[kind] is None for kind in KINDS)
