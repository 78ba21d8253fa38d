from __future__ import annotations

import numpy as np
import pytest

from detdistill.core.texts import points
from detdistill.evaluation.coco_metrics import coco_metrics
from detdistill.evaluation.evaluating import Evaluation, evaluation_of
from detdistill.evaluation.results import Results, to_xywh
from detdistill.evaluation.score_sections import class_section, confusion_section, precision_recall_section
from detdistill.report.charts import Chart
from detdistill.report.html import Grid, Matrix, Table
from support.evaluation_datasets import dataset, no_objects, record
from support.evaluations import boxes_dataset, guessed
from support.small_runs import write_boxes


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory: pytest.TempPathFactory) -> Evaluation:
    return guessed(boxes_dataset(write_boxes(tmp_path_factory.mktemp("data"), train=1, val=12)))


def many(classes: int, *, lowest: float = 1) -> Evaluation:
    """An object of each class in an image of its own; every third is taken for the next class.

    Scores are between `lowest` and 1.
    """
    box = [10.0, 10, 50, 50]
    truth = dataset([f"class {n}" for n in range(classes)], [record(n, [box], [n]) for n in range(classes)])
    labels = np.array([(n + (n % 3 == 0)) % classes for n in range(classes)], dtype=np.int64)
    scores = np.random.default_rng(0).uniform(lowest, 1, classes)
    found = Results(np.arange(classes), to_xywh(np.array([box]).repeat(classes, axis=0)), scores, labels)
    return evaluation_of(truth, found, coco_metrics(truth, found))


def curves(evaluation: Evaluation) -> Chart:
    (grid,) = precision_recall_section(evaluation).parts
    assert isinstance(grid, Grid)
    (chart,) = grid.items
    assert isinstance(chart, Chart)
    return chart


def test_the_table_has_each_class_and_its_scores_the_weakest_first(evaluation: Evaluation) -> None:
    (table,) = class_section(evaluation).parts
    assert isinstance(table, Table)
    rows = {row[0]: row[1:] for row in table.rows}
    assert set(rows) == {"green", "red"}
    for label, name in enumerate(evaluation.dataset.classes):
        scores, best = evaluation.scores.per_class[name], evaluation.best_f1[name]
        assert best is not None
        objects, ap, ap50, precision, recall, threshold = rows[name]
        assert int(objects) == np.count_nonzero(evaluation.dataset.images.labels == label)
        assert (ap, ap50) == (points(scores.AP), points(scores.AP50))
        assert (precision, recall) == (points(best.precision), points(best.recall))
        assert float(threshold) == pytest.approx(best.threshold, abs=0.005)
    assert float(table.rows[0][2]) <= float(table.rows[1][2])


def test_few_classes_have_a_curve_each_and_many_the_mean_and_the_weakest(evaluation: Evaluation) -> None:
    assert set(curves(evaluation).lines) == {"green", "red"}
    assert len(curves(many(5)).lines) == 4
    assert next(iter(curves(many(80)).lines)) == "mean of all classes"


def test_the_mean_curve_is_that_of_coco() -> None:
    evaluation = many(9, lowest=0.5)
    mean = curves(evaluation).lines["mean of all classes"]
    assert len(mean) == 101
    assert sum(precision for _, precision in mean) / 101 == pytest.approx(100 * (evaluation.scores.AP50 or 0))


@pytest.mark.parametrize("classes", [5, 12, 13, 80])
def test_the_matrix_holds_all_objects_and_shows_thirteen_names_at_most(classes: int) -> None:
    matrix, pairs = confusion_section(many(classes)).parts
    assert isinstance(matrix, Matrix)
    assert isinstance(pairs, Table)
    assert sum(map(sum, matrix.counts[:-1])) == classes
    assert len(matrix.rows) == len(matrix.columns) == (classes + 1 if classes <= 12 else 14)
    mixed_up = [n for n in range(classes) if n % 3 == 0]
    assert len(pairs.rows) == min(len(mixed_up), 10)
    assert {(row[0], row[1]) for row in pairs.rows} <= {(f"class {n}", f"class {(n + 1) % classes}") for n in mixed_up}
    assert {row[3] for row in pairs.rows} == {"100"}


def test_long_names_stay_short_and_different() -> None:
    names = ["x" * 5000 + "a" * 40, "x" * 5000 + "b" + "a" * 40]
    truth = dataset(names, [record(n, [[10.0, 10, 50, 50]], [n]) for n in range(2)])
    found = Results(np.arange(2), np.array([[10.0, 10, 40, 40]] * 2), np.array([0.9, 0.8]), np.arange(2))
    evaluation = evaluation_of(truth, found, coco_metrics(truth, found))
    lines = curves(evaluation).lines
    assert len(lines) == 2
    assert max(map(len, lines)) < 50
    (matrix,) = confusion_section(evaluation).parts
    assert isinstance(matrix, Matrix)
    assert max(map(len, [*matrix.rows, *matrix.columns])) < 50


@pytest.mark.parametrize(("images", "classes"), [(0, 1), (2, 1), (2, 80)])
def test_without_objects_or_detections_nothing_breaks(images: int, classes: int) -> None:
    truth = no_objects(images, classes)
    empty = Results.empty()
    evaluation = evaluation_of(truth, empty, coco_metrics(truth, empty))
    for make in (class_section, precision_recall_section, confusion_section):
        assert make(evaluation).parts


def test_objects_of_which_nothing_is_found() -> None:
    truth = dataset(["a", "b", "c", "d", "e"], [record(n, [[10.0, 10, 50, 50]], [n]) for n in range(5)])
    empty = Results.empty()
    evaluation = evaluation_of(truth, empty, coco_metrics(truth, empty))
    assert precision_recall_section(evaluation).parts
    (matrix,) = confusion_section(evaluation).parts
    assert isinstance(matrix, Matrix)
    assert [row[-1] for row in matrix.counts] == [1] * 5 + [0]
