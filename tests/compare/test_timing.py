from __future__ import annotations

from pathlib import Path

from detdistill.compare.plan import BASELINE, Terms
from detdistill.compare.timing import step_seconds
from small_runs import small_distillation, write_boxes, write_teacher


def test_every_method_is_timed(tmp_path: Path) -> None:
    recipe = small_distillation(write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher"))
    methods: dict[str, Terms] = {
        BASELINE: {},
        "hint": {"hint": {}},
        "both": {"rank_mimicking": {"weight": 3}, "prediction_guided": {}},
    }
    found = step_seconds(recipe, methods, batches=1, rounds=1)
    assert list(found) == list(methods)
    assert all(seconds > 0 for seconds in found.values())
