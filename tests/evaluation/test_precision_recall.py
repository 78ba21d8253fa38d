from __future__ import annotations

from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from detdistill.evaluation.precision_recall import at_recalls, best_f1, precision_recall
from detdistill.evaluation.results import Results, to_xywh
from detdistill.evaluation.voc_metrics import Ranking, rank_detections
from support.evaluation_datasets import dataset, record

BOX, FAR = [10.0, 10, 30, 30], [100.0, 100, 120, 120]


def ranking(scores: list[float], right: list[bool], total: int) -> Ranking:
    return Ranking(np.array(scores, dtype=float), np.array(right, dtype=bool), total)


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    scores = sorted(draw(st.lists(st.integers(0, 10), max_size=30)), reverse=True)
    right = [draw(st.booleans()) for _ in scores]
    return ranking([score / 10 for score in scores], right, sum(right) + draw(st.integers(0, 5)))


def test_a_curve_worked_by_hand() -> None:
    """Four objects; right; a right and a wrong one tied; wrong."""
    curve = precision_recall(ranking([0.9, 0.5, 0.5, 0.2], [True, False, True, False], 4))
    assert curve.thresholds.tolist() == [0.9, 0.5, 0.2]
    assert curve.precision.tolist() == [1, 2 / 3, 2 / 4]
    assert curve.recall.tolist() == [1 / 4, 2 / 4, 2 / 4]
    best = best_f1(curve)
    assert best is not None
    assert astuple(best) == pytest.approx((0.5, 2 / 3, 0.5, 4 / 7), abs=1e-12)


@given(rankings())
def test_every_point_counts_what_its_threshold_takes(found: Ranking) -> None:
    curve = precision_recall(found)
    assert (np.diff(curve.thresholds) < 0).all()
    for threshold, precision, recall in zip(curve.thresholds, curve.precision, curve.recall, strict=True):
        taken = found.scores >= threshold
        assert precision == found.right[taken].sum() / taken.sum()
        assert recall == found.right[taken].sum() / found.total


@given(rankings())
def test_no_threshold_is_better_than_the_best(found: Ranking) -> None:
    best = best_f1(precision_recall(found))
    taken = [found.scores >= threshold for threshold in np.unique(found.scores)]
    f1 = [2 * found.right[chosen].sum() / (chosen.sum() + found.total) for chosen in taken]
    if best is None:
        assert not found.right.any()
    else:
        assert best.f1 == pytest.approx(max(f1), abs=1e-12)
        assert best.f1 == pytest.approx(f1[int(np.searchsorted(np.unique(found.scores), best.threshold))], abs=1e-12)


@given(rankings(), st.integers(2, 12))
@example(ranking([0.9 - 0.1 * place for place in range(9)], [True] * 9, 10), 11)
def test_a_drawn_curve_keeps_the_first_point_of_each_recall(found: Ranking, points: int) -> None:
    curve = precision_recall(found)
    drawn = at_recalls(curve, points)
    whole = [*zip(curve.thresholds, curve.precision, curve.recall, strict=True)]
    expected = []
    for level in range(points):
        reached = [point for point in whole if point[2] >= level / (points - 1)]
        if reached and reached[0] not in expected:
            expected.append(reached[0])
    assert [*zip(drawn.thresholds, drawn.precision, drawn.recall, strict=True)] == expected


@pytest.mark.parametrize("found", [ranking([], [], 0), ranking([], [], 3), ranking([0.5], [False], 3)])
def test_without_a_right_detection_no_threshold_is_best(found: Ranking) -> None:
    assert best_f1(precision_recall(found)) is None


def test_difficult_objects_count_neither_way() -> None:
    truth = dataset(["cat", "dog"], [record("a", [BOX, FAR], [0, 0], difficult=[0, 1]), record("b", [BOX], [1])])
    found = Results(
        np.array([0, 0, 1, 1]),
        to_xywh(np.array([FAR, BOX, BOX, FAR])),
        np.array([0.9, 0.8, 0.3, 0.4]),
        np.array([0, 0, 1, 1]),
    )
    cat, dog = rank_detections(truth, found).values()
    assert (cat.scores.tolist(), cat.right.tolist(), cat.total) == ([0.8], [True], 1)
    assert (dog.scores.tolist(), dog.right.tolist(), dog.total) == ([0.4, 0.3], [False, True], 1)
