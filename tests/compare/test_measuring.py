from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from compare.test_table import PLAN, TEACHER, outcome
from detdistill.compare import measuring
from detdistill.compare.measuring import is_measured, kept_times, measure
from detdistill.compare.outcome import Outcome
from detdistill.compare.plan import BASELINE, Cell, Plan, Terms
from detdistill.training.recipe import Recipe


def test_what_is_missing_is_measured_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The teacher once; the steps of all methods with a finished run, again when another method has one."""
    finished, scored, timed = {BASELINE}, [], []

    def read(_: Plan, cell: Cell, __: Path) -> Outcome | None:
        return outcome(cell.method, cell.seed, 0.5) if cell.method in finished and cell.seed == 0 else None

    def scores(*_: object, **__: object) -> dict[str, Any] | None:
        scored.append(True)
        return TEACHER["mine"]

    def seconds(_: Recipe, methods: Mapping[str, Terms]) -> dict[str, float]:
        timed.append(list(methods))
        return dict.fromkeys(methods, 0.1)

    monkeypatch.setattr(measuring, "read_outcome", read)
    monkeypatch.setattr(measuring, "teacher_scores", scores)
    monkeypatch.setattr(measuring, "kept_teacher_scores", lambda *_: TEACHER["mine"] if scored else None)
    monkeypatch.setattr(measuring, "step_seconds", seconds)
    (tmp_path / "mine").mkdir()
    assert not is_measured(PLAN, tmp_path)
    measure(PLAN, tmp_path)
    assert is_measured(PLAN, tmp_path)
    measure(PLAN, tmp_path)
    assert timed == [[BASELINE]]
    finished.add("pearson")
    assert not is_measured(PLAN, tmp_path)
    measure(PLAN, tmp_path)
    assert timed == [[BASELINE], [BASELINE, "pearson"]]
    assert kept_times("mine", tmp_path) == {BASELINE: 0.1, "pearson": 0.1}
    assert is_measured(PLAN, tmp_path)


def test_nothing_is_kept_in_a_new_folder(tmp_path: Path) -> None:
    assert kept_times("mine", tmp_path) == {}
