from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from detdistill.compare.plan import BASELINE, Terms
from detdistill.compare.timing import step_seconds
from support.small_runs import small_distillation, write_boxes, write_teacher


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


def test_first_weights_are_not_read_again(tmp_path: Path) -> None:
    """Each method would tell of them once more, and a step takes the same time with any."""
    recipe = small_distillation(write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher"))
    recipe = replace(recipe, start=replace(recipe.start, backbone=str(tmp_path / "gone.safetensors")))
    assert step_seconds(recipe, {BASELINE: {}}, batches=1, rounds=1)[BASELINE] > 0
