from __future__ import annotations

import csv
import io
from dataclasses import replace
from typing import Any

import pytest

from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import BASELINE, Plan
from detdistill.compare.table import COLUMNS, SCORES, as_csv, as_json, as_markdown, class_texts, rows_of, texts
from detdistill.training.distillation_settings import Distillation
from detdistill.training.recipe import Data, Machine, Recipe

PLAN = Plan(
    {"mine": Recipe(Data("d"), distill=Distillation("t"), machine=Machine(precision="float32", threads=1))},
    {BASELINE: {}, "hint": {"hint": {}}, "pearson": {"pearson": {}}},
    (0, 1, 2),
)


def scores(ap: float | None) -> dict[str, Any]:
    return {**dict.fromkeys(SCORES, ap), "per_class": {"cat": {"AP": ap}, "dog": {"AP": None}}}


def outcome(method: str, seed: int, ap: float | None, **changes: Any) -> Outcome:
    return Outcome(
        **{
            "setting": "mine",
            "method": method,
            "seed": seed,
            "report_on": "val",
            "scores": scores(ap),
            "select_on": None,
            "selection": None,
            "steps": 10,
            "seconds": 1.0,
            "peak_memory_mib": 100 * (seed + 1),
            "weights": {},
            "threads": 1,
            "machine": "m",
            "python": "3",
            "versions": {},
            **changes,
        }
    )


RUNS = [
    outcome(BASELINE, 0, 0.20),
    outcome(BASELINE, 1, 0.30),
    outcome("hint", 1, 0.34),
    outcome("hint", 0, 0.26),
    outcome("hint", 2, 0.90),
]
TEACHER = {"mine": scores(0.5)}


def test_rows_by_hand() -> None:
    teacher, baseline, hint = rows_of(PLAN, RUNS, TEACHER, {"mine": {"hint": 0.25}})
    assert (teacher.method, teacher.seeds) == ("teacher", ())
    assert teacher.scores["AP"] is not None
    assert teacher.scores["AP"].mean == 0.5
    assert (baseline.gained, baseline.gap_closed, baseline.step_seconds) == (None, None, None)
    assert (hint.seeds, hint.values) == ((0, 1, 2), {1: 0.34, 0: 0.26, 2: 0.90})
    assert hint.gained is not None
    assert hint.gained.count == 2, "the third seed has no baseline"
    assert hint.gained.mean == pytest.approx(0.05)
    assert hint.gap_closed == pytest.approx(0.05 / 0.25)
    assert hint.peak_memory_mib == 200
    assert hint.step_seconds == 0.25
    assert hint.per_class == {"cat": pytest.approx(0.5), "dog": None}


def test_no_row_without_its_number_of_seeds() -> None:
    rows = rows_of(PLAN, RUNS, TEACHER, {})
    assert [row.method for row in rows] == ["teacher", BASELINE, "hint"], "pearson has no finished run"
    assert [texts(row)[COLUMNS.index("seeds")] for row in rows] == ["–", "2", "3"]
    assert all(len(texts(row)) == len(COLUMNS) for row in rows)


def test_texts_are_of_0_to_100_and_undefined_is_a_dash() -> None:
    one = rows_of(PLAN, [outcome(BASELINE, 0, 0.205), outcome("hint", 0, 0.26)], {}, {})
    assert texts(one[1])[:3] == ["hint", "1", "26.0"]
    assert texts(one[1])[COLUMNS.index("AP gained")] == "+5.5"
    assert texts(one[1])[COLUMNS.index("gap closed")] == "–"
    (empty,) = rows_of(PLAN, [outcome(BASELINE, 0, None)], {}, {})
    assert texts(empty)[2:10] == ["–"] * 8
    assert class_texts(one) == (["method", "cat", "dog"], [[BASELINE, "20.5", "–"], ["hint", "26.0", "–"]])


def test_the_split_that_something_may_be_chosen_on_stands_apart() -> None:
    runs = [replace(run, select_on="other", selection=scores(0.1)) for run in RUNS]
    *_, hint = rows_of(PLAN, runs, TEACHER, {})
    assert hint.selection is not None
    assert hint.selection.mean == pytest.approx(0.1)
    assert hint.scores["AP"] is not None
    assert hint.scores["AP"].mean == pytest.approx(0.5)


def test_every_format_has_every_row() -> None:
    rows = rows_of(PLAN, RUNS, TEACHER, {})
    read = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [row["method"] for row in read] == ["teacher", BASELINE, "hint"]
    assert float(read[2]["gained"]) == pytest.approx(0.05)
    assert read[0]["gained"] == ""
    lines = as_markdown(rows).splitlines()
    assert lines[0] == "**mine**"
    assert len([line for line in lines if line.startswith("| ")]) == 4
    assert as_json(rows)[2]["gained"]["count"] == 2
