from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from detdistill import load
from detdistill.core.errors import DetdistillError
from detdistill.training.run import check, distill, train
from support.small_runs import small_distillation, small_recipe, write_boxes, write_teacher


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


def refused(data: Path, teacher: Path, **changes: Any) -> str:
    with pytest.raises(DetdistillError) as error:
        check(small_distillation(data, teacher, **changes))
    return str(error.value)


def test_nothing_in_common(data: Path, tmp_path: Path) -> None:
    assert "no class name in common. The teacher's classes: a, b. The student's: green, red" in refused(
        data, write_teacher(tmp_path / "classes", ("a", "b"))
    )
    levels = write_teacher(tmp_path / "levels", strides=(4,), extra_levels=0)
    assert "no pyramid level in common: the teacher's strides are 4, the student's 8, 16" in refused(data, levels)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"terms": {"rank_mimiking": {}}}, "did you mean rank_mimicking?"),
        ({"terms": {"rank_mimicking": {"spase": "prob"}}}, "did you mean space?"),
        (
            {"terms": {"rank_mimicking": {"space": "probability"}}},
            "distill.terms.rank_mimicking.space must be one of logit, prob, not 'probability'",
        ),
        ({"class_map": {"gren": "red"}}, "did you mean green?"),
        ({"init_from_teacher": ("head",)}, "nothing of the teacher's head fits the student's"),
        ({"terms": {}}, "terms"),
        ({"ratio": 0}, "ratio"),
        ({"memory": -1}, "memory"),
    ],
)
def test_mistakes_in_a_recipe(changes: dict[str, Any], said: str, data: Path, teacher: Path) -> None:
    assert said in refused(data, teacher, **changes)


def test_a_teacher_that_is_none(data: Path, tmp_path: Path) -> None:
    assert "absent: no such file or folder" in refused(data, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    assert "empty is of no known kind" in refused(data, tmp_path / "empty")


def test_the_teacher_is_never_overwritten(data: Path, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "run" / "teacher")
    for folder in (teacher, tmp_path / "run"):
        with pytest.raises(DetdistillError, match="lies in the folder of the run"):
            distill(small_distillation(data, teacher), None, folder, overwrite=True)
    assert load(teacher).classes == ("green", "red")


def test_a_run_folder_is_of_one_kind(data: Path, teacher: Path, tmp_path: Path) -> None:
    plain, taught = small_recipe(data, epochs=1), small_distillation(data, teacher, epochs=1)
    train(plain, tmp_path / "plain")
    distill(taught, None, tmp_path / "taught")
    for resume, said in ((False, "a run of another recipe"), (True, r"cannot go on with another distill\.teacher")):
        with pytest.raises(DetdistillError, match=rf"(?s){said}.*\n  distill\.teacher: None -> {teacher}\n"):
            distill(taught, None, tmp_path / "plain", resume=resume)
        with pytest.raises(DetdistillError, match=rf"(?s){said}.*\n  distill\.teacher: {teacher} -> None\n"):
            train(plain, tmp_path / "taught", resume=resume)
    with pytest.raises(DetdistillError, match="the recipe has a distill section"):
        train(taught, tmp_path / "third")


def test_a_module_that_is_no_detector_is_refused(data: Path, teacher: Path) -> None:
    with pytest.raises(DetdistillError, match="Conv2d is no Detector"):
        check(small_distillation(data, teacher), torch.nn.Conv2d(3, 3, 1))
