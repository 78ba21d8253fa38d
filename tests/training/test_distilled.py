from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detdistill import load
from detdistill.cli import main
from detdistill.core.errors import DetdistillError
from detdistill.core.image_options import ImageSize
from detdistill.detectors.dense.folding import folded
from detdistill.detectors.saving import save_detector
from detdistill.detectors.storage import read_description
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.teachers.detector_teacher import DetectorTeacher
from detdistill.teachers.teacher import Guidance, TeacherBatch
from detdistill.training.interruption import Interrupted
from detdistill.training.recipe import Data, Optimization, Recipe, Schedule, Start
from detdistill.training.recipe_file import read_recipe, write_recipe
from detdistill.training.run import check, distill, train
from detdistill.training.summary import Summary
from support.small_runs import (
    assert_equal_runs,
    at_step,
    largest_difference,
    lines,
    recorded_gradients,
    small_distillation,
    small_recipe,
    state,
    taught_otherwise,
    write_boxes,
    write_teacher,
)
from support.tiny_detector import tiny_detector

TERMS = ("rank_mimicking", "prediction_guided", "hint")
STEPS = 20
FIXED = 4
"""The step, counted from 0, from which the weights stand: after two of warm-up and a tenth of the run."""
TEACHER_AP = 0.42


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def recipe(data: Path, teacher: Path) -> Recipe:
    """Long enough for weights to be found."""
    terms = {"rank_mimicking": {}, "prediction_guided": {}, "hint": {"weight": 0.01, "decay": "linear"}}
    short = small_distillation(data, teacher, terms=terms)
    return replace(
        short,
        schedule=replace(short.schedule, epochs=STEPS // 2),
        evaluation=replace(short.evaluation, every=3),
    )


def fixed_score(*_: object) -> CocoMetrics:
    return CocoMetrics(AP=TEACHER_AP, per_class={})


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run with a teacher of known score, and what it said."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detdistill.training.distilled.teacher_metrics", fixed_score)
        distill(recipe, None, folder)
    return folder


def test_with_weights_of_0_the_student_is_that_of_training(data: Path, teacher: Path, tmp_path: Path) -> None:
    """Adapters, preflight and the teacher's scores leave no trace."""
    train(small_recipe(data), tmp_path / "alone")
    terms = {"rank_mimicking": {"weight": 0}, "prediction_guided": {"weight": 0}}
    distill(small_distillation(data, teacher, terms=terms), None, tmp_path / "taught")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "taught")]
    assert weights[0] == weights[1]
    alone, taught = lines(tmp_path / "alone"), lines(tmp_path / "taught")
    assert alone == [{name: values[name] for name in own} for own, values in zip(alone, taught, strict=True)]
    assert all(line["prediction_guided/raw"] > 0 for line in taught if "loss" in line)


def test_terms_with_weights_change_the_student(data: Path, recipe: Recipe, tmp_path: Path) -> None:
    """So the test above can fail."""
    train(small_recipe(data, epochs=1), tmp_path / "alone")
    terms = {"hint": {"weight": 1}}
    short = replace(recipe, schedule=replace(recipe.schedule, epochs=1))
    distill(taught_otherwise(short, terms=terms), None, tmp_path / "taught")
    alone, taught = (load(tmp_path / name).state_dict() for name in ("alone", "taught"))
    assert any(not torch.equal(value, taught[name]) for name, value in alone.items())


def test_the_model_holds_the_student_alone(whole: Path) -> None:
    """It loads where nothing of distillation or training can be imported."""
    own = tiny_detector(classes=("green", "red")).state_dict()
    assert load(whole).state_dict().keys() == own.keys()
    adapters = [name for name in state(whole)["task"] if ".adapters." in name]
    assert len(adapters) == 2 * 5 * 3  # two terms, five levels, weight, bias and scale
    assert not any("teacher" in name for name in state(whole)["task"])
    blocked = ("detdistill.distill.distiller", "detdistill.distill.term", "detdistill.training", "pytorch_lightning")
    program = (
        f"import sys; sys.modules.update(dict.fromkeys({blocked})); import detdistill; "
        f"print(*detdistill.load({str(whole)!r}).classes)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["green", "red"]


def test_the_record_says_who_taught_what(recipe: Recipe, whole: Path, teacher: Path) -> None:
    record = read_description(whole).provenance
    assert record["made_by"] == "distillation"
    expected = {"source": str(teacher), "sha256": read_description(teacher).weights_sha256}
    assert record["teacher"] == expected
    assert record["terms"] == recipe.distillation.terms
    last = lines(whole)[-2]
    found = {name: last[f"{name}/weight"] for name in TERMS[:2]}
    assert record["weights"] == {**found, "hint": 0.01}
    assert len(record["data"]["annotations_sha256"]) == 64
    assert {"detdistill", "torch", "timm"} <= record["versions"].keys()
    assert read_recipe(whole / "recipe.yaml") == recipe


def test_the_log_has_raw_value_and_weight_of_each_term(whole: Path) -> None:
    steps = [line for line in lines(whole) if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, STEPS + 1))
    for line in steps:
        for name in TERMS:
            assert line[name] == pytest.approx(line[f"{name}/raw"] * line[f"{name}/weight"], rel=1e-5, abs=1e-12)
        parts = (*TERMS, "classification", "box", "distribution")
        assert line["loss"] == pytest.approx(sum(line[name] for name in parts))
    for name in TERMS[:2]:
        weights = [line[f"{name}/weight"] for line in steps]
        assert weights[0] == 0
        assert len(set(weights[FIXED:])) == 1
        assert weights[FIXED] > 0
    hint = [line["hint/weight"] for line in steps]
    assert hint == pytest.approx([0.01 * (1 - step / STEPS) for step in range(STEPS)])


def test_the_teachers_score_stands_beside_the_students(
    data: Path, teacher: Path, whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((whole / "summary.json").read_text())["teacher_ap"] == TEACHER_AP
    file, rest = tmp_path / "recipe.yaml", ("--accept-teacher", "--out", str(tmp_path / "run"))
    write_recipe(small_recipe(data, epochs=1), file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("detdistill.training.distilled.teacher_metrics", fixed_score)
        assert main(["distill", str(file), "--teacher", str(teacher), *rest]) == 0
    said = capsys.readouterr()
    assert "on the validation set (the best so far; the teacher's AP 42.0)" in said.err
    assert "the teacher's AP: 42.0" in said.out


def test_the_average_is_kept_and_is_the_student_alone(whole: Path) -> None:
    weights, saved = load(whole).state_dict(), state(whole)
    assert all(torch.equal(value, saved["average"][f"module.{name}"]) for name, value in weights.items())
    assert any(not torch.equal(value, saved["task"][f"distiller.student.{name}"]) for name, value in weights.items())


@pytest.mark.parametrize("step", [1, FIXED, 9], ids=["provisional weight", "calibration", "fixed weight"])
def test_stopped_in_any_phase_goes_on_to_the_same_end(
    step: int, recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detdistill.training.distilled.teacher_metrics", fixed_score)
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted, match=f"after step {step};"):
            distill(recipe, None, tmp_path / "run")
    monkeypatch.setattr("detdistill.training.distilled.teacher_metrics", None)  # the score is remembered
    assert distill(recipe, None, tmp_path / "run").teacher_ap == TEACHER_AP
    assert_equal_runs(tmp_path / "run", whole)


def test_a_run_does_not_go_on_with_another_teacher(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is the same, but somebody has trained in it meanwhile."""
    teacher = write_teacher(tmp_path / "teacher")
    recipe = replace(small_distillation(data, teacher), data=Data(str(data), val=None))
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            distill(recipe, None, tmp_path / "run")
    write_teacher(teacher, seed=2)
    with pytest.raises(DetdistillError, match=r"started with the teacher .* put that teacher back"):
        distill(recipe, None, tmp_path / "run")


def test_stopped_while_scores_are_taken_goes_on_to_the_same_end(
    recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record that is written first thing in the resumed run has the weights, too."""
    monkeypatch.setattr("detdistill.training.distilled.teacher_metrics", fixed_score)

    def interrupted(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr("detdistill.training.scores.score", interrupted)
        with pytest.raises(Interrupted, match="after step 6"):
            distill(recipe, None, tmp_path / "run")
    recorded: list[dict[str, Any]] = []

    def save(*arguments: Any, **options: Any) -> None:
        recorded.append(options["provenance"])
        save_detector(*arguments, **options)

    monkeypatch.setattr("detdistill.training.scores.save_detector", save)
    distill(recipe, None, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", whole)
    assert recorded[0]["epoch"] == 3
    assert recorded[0]["weights"] == recorded[-1]["weights"]


def test_a_teacher_that_is_remembered_teaches_the_same(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = replace(recipe, images=replace(recipe.images, flip=0.0, scale_jitter=(1.0, 1.0), photometric=0.0))
    asked: list[int] = []
    guide = DetectorTeacher.guide

    def counted(teacher: DetectorTeacher, batch: TeacherBatch) -> Guidance:
        if batch.wanted != {"boxes"}:  # not for its score
            asked.append(len(batch.images))
        return guide(teacher, batch)

    distill(recipe, None, tmp_path / "asked")
    assert "teacher memory" not in capsys.readouterr().err
    monkeypatch.setattr(DetectorTeacher, "guide", counted)
    distill(taught_otherwise(recipe, memory=64), None, tmp_path / "remembered")
    assert "teacher memory: 8 images need about 1 MiB" in capsys.readouterr().err
    one, other = (
        [line["loss"] for line in lines(tmp_path / name) if "loss" in line] for name in ("asked", "remembered")
    )
    assert one == pytest.approx(other, rel=1e-4)
    assert sum(asked) < len(one) * recipe.batch_size
    assert max(asked) == recipe.batch_size


def test_parts_of_a_batch_give_its_gradient(recipe: Recipe, tmp_path: Path) -> None:
    """Automatic weights included; batch norm frozen, for it sees one part at a time."""
    frozen = replace(
        recipe, start=Start(batch_norm="frozen"), optimization=Optimization(), schedule=Schedule(2, milestones=())
    )
    gradients = {}
    for parts in (1, 2):
        with pytest.MonkeyPatch.context() as patch:
            gradients[parts] = recorded_gradients(patch)
            distill(replace(frozen, accumulate=parts), None, tmp_path / str(parts))
    assert len(gradients[2]) == len(gradients[1]) == 4
    for found, expected in zip(gradients[2], gradients[1], strict=True):
        assert any(".adapters." in name for name in found)
        assert largest_difference(found, expected) < 1e-5


# Teachers


def test_a_module_teaches_like_the_folder_that_it_came_from(data: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = small_distillation(data, teacher, epochs=1)
    distill(recipe, None, tmp_path / "folder")
    # What is loaded for teaching alone is folded.
    distill(taught_otherwise(recipe, teacher="my own"), folded(load(teacher)), tmp_path / "module")
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("folder", "module")]
    assert weights[0] == weights[1]
    assert read_description(tmp_path / "module").provenance["teacher"] == {"source": "DenseDetector", "sha256": None}


def other_classes(teacher: Path, folder: Path, names: tuple[str, ...], rows: list[int]) -> Path:
    """The same teacher with its classes in another order, or several times."""
    detector = load(teacher)
    other = tiny_detector(classes=names, channels=24)
    weights = detector.state_dict()
    chosen = {name: value[rows] for name, value in weights.items() if ".class_predictor." in name}
    assert chosen
    other.load_state_dict(weights | chosen)
    save_detector(other, folder)
    return folder


@pytest.mark.parametrize(
    ("names", "rows", "table"),
    [
        (("red", "green"), [1, 0], {}),
        (("blue", "red", "green"), [0, 1, 0], {}),
        (("verde", "red"), [0, 1], {"verde": "green"}),
        (("verde", "green", "red"), [0, 0, 1], {"verde": "green"}),
    ],
    ids=["permuted", "superset", "renamed", "two that mean one"],
)
def test_a_teacher_of_other_classes_teaches_the_same(
    names: tuple[str, ...],
    rows: list[int],
    table: dict[str, str],
    data: Path,
    teacher: Path,
    tmp_path: Path,
) -> None:
    recipe = small_distillation(data, teacher, epochs=1)
    distill(recipe, None, tmp_path / "same")
    other = other_classes(teacher, tmp_path / "t", names, rows)
    distill(taught_otherwise(recipe, class_map=table), other, tmp_path / "other")
    for same, found in zip(lines(tmp_path / "same"), lines(tmp_path / "other"), strict=True):
        assert found == pytest.approx(same, rel=1e-3) if "loss" in same else found == same


def test_a_class_that_the_teacher_lacks_is_told(data: Path, tmp_path: Path) -> None:
    said = check(small_distillation(data, write_teacher(tmp_path / "t", ("verde", "red"))))
    assert "classes the teacher lacks: green" in said


def test_a_teacher_for_another_image_size_is_told(data: Path, teacher: Path, tmp_path: Path) -> None:
    save_detector(load(teacher), tmp_path / "t", image_size=ImageSize(320, 427))
    said = check(small_distillation(data, tmp_path / "t"))
    assert "the teacher was made for sides of 320 and at most 427 px and gets a square of 64 px" in said
    save_detector(load(teacher), tmp_path / "same", image_size=ImageSize(1, 2, letterbox=64))
    assert "image size" not in check(small_distillation(data, tmp_path / "same")).partition("WARNING")[0]


def test_the_student_can_start_with_the_teachers_pyramid_and_head(data: Path, tmp_path: Path) -> None:
    teacher = write_teacher(tmp_path / "t", channels=16)
    still = Optimization(learning_rate=1e-20, weight_decay=0)
    recipe = small_distillation(data, teacher, epochs=1, optimization=still, init_from_teacher=("head",))
    assert "copied from the teacher" in check(recipe)
    distill(recipe, None, tmp_path / "run")
    student, given = load(tmp_path / "run").state_dict(), load(teacher).state_dict()
    for name, value in student.items():
        if value.dim() > 1:
            assert torch.equal(value, given[name]) == name.startswith("head."), name


def test_data_without_a_score_needs_no_teachers_score(data: Path, teacher: Path, tmp_path: Path) -> None:
    recipe = small_distillation(data, teacher, epochs=1)
    summary = distill(replace(recipe, data=replace(recipe.data, val=None)), None, tmp_path / "run")
    assert isinstance(summary, Summary)
    assert summary.teacher_ap is None
