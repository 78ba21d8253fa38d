from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill import load
from detdistill.cli import main
from detdistill.core.errors import DataError, DetdistillError
from detdistill.core.image_options import ImageOptions, ImageSize
from detdistill.core.structures import ReduceSum
from detdistill.data.loading import Batch
from detdistill.detectors.dense.architecture import FeaturePyramid
from detdistill.detectors.storage import read_description
from detdistill.evaluation.coco_metrics import CocoMetrics
from detdistill.evaluation.results import Results
from detdistill.evaluation.score import score
from detdistill.training.loop import DivergedError, Loop
from detdistill.training.probe import Choice
from detdistill.training.recipe import Data, Logging, Machine, Optimization, Recipe, Schedule, Start
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import train
from detdistill.training.task import Task
from support.small_runs import TINY, lines, small_recipe, state, write_boxes


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


def change_annotations(folder: Path, part: str, change: Callable[[dict[str, Any]], None]) -> None:
    file = folder / "annotations" / f"instances_{part}.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def replace_losses(monkeypatch: pytest.MonkeyPatch, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Changes the losses of the second epoch's first step."""
    losses = Loop.batch_losses

    def changed(self: Loop, batch: Any, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        terms = losses(self, batch, reduce_sum)
        return change(terms) if self.step == 2 else terms

    monkeypatch.setattr(Loop, "batch_losses", changed)


def test_what_a_run_folder_holds(data: Path, tmp_path: Path) -> None:
    recipe = small_recipe(data, epochs=2)
    summary = train(recipe, tmp_path / "run")
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == recipe
    description = read_description(tmp_path / "run")
    assert description.classes == load(tmp_path / "run").classes == ("green", "red")
    assert description.input.size == ImageSize(letterbox=64)
    assert description.provenance["seed"] == 0
    assert description.provenance["epoch"] == summary.best_epoch
    assert len(description.provenance["data"]["annotations_sha256"]) == 64
    assert (summary.epochs, summary.steps) == (2, 4)
    written = lines(tmp_path / "run")
    assert [line["step"] for line in written] == [1, 2, 2, 3, 4, 4]
    terms = {"classification", "box", "distribution"}
    assert terms | {"loss", "gradient_norm", "learning_rate", "step", "epoch"} == written[0].keys()
    assert written[0]["loss"] == pytest.approx(sum(written[0][name] for name in terms))
    assert set(written[2]["AP50_per_class"]) == {"green", "red"}
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["AP"] == written[-1]["AP"]


@pytest.mark.slow
def test_a_detector_learns_and_the_best_epoch_is_kept(tmp_path: Path) -> None:
    recipe = small_recipe(
        write_boxes(tmp_path / "data", train=32, val=16),
        epochs=40,
        images=ImageOptions(letterbox=64),
        batch_size=8,
        optimization=Optimization("adamw", learning_rate=3e-3, ema=0.95),
        schedule=Schedule(40, warmup_steps=10, decay="cosine"),
        logging=Logging(every=10, page=False),
    )
    summary = train(recipe, tmp_path / "run")
    best = max((line["AP"], line["epoch"]) for line in lines(tmp_path / "run") if "AP" in line)
    assert (summary.AP, summary.best_epoch) == best
    assert summary.AP is not None
    assert summary.AP > 0.3
    scores = tmp_path / "scores.json"
    data = ("--data", recipe.data.path, "--split", "val", "--json", str(scores), "--channels-last")
    assert main(["evaluate", str(tmp_path / "run"), *data]) == 0
    assert json.loads(scores.read_text())["AP"] == pytest.approx(summary.AP)


def test_the_average_is_kept_where_there_is_one(data: Path, tmp_path: Path) -> None:
    train(small_recipe(data, epochs=1), tmp_path / "run")
    weights, saved = load(tmp_path / "run").state_dict(), state(tmp_path / "run")
    assert all(torch.equal(value, saved["average"][f"module.{name}"]) for name, value in weights.items())
    assert any(not torch.equal(value, saved["task"][f"student.{name}"]) for name, value in weights.items())


def test_without_validation_the_last_is_kept(data: Path, tmp_path: Path) -> None:
    recipe = replace(small_recipe(data, epochs=2, optimization=Optimization()), data=Data(str(data), val=None))
    summary = train(recipe, tmp_path / "run")
    assert (summary.AP, summary.best_epoch) == (None, None)
    weights, saved = load(tmp_path / "run").state_dict(), state(tmp_path / "run")["task"]
    assert all(torch.equal(value, saved[f"student.{name}"]) for name, value in weights.items())


def test_frozen_batch_norm_and_stages_stay_as_they_were(data: Path, tmp_path: Path) -> None:
    start = Start(batch_norm="frozen", frozen_stages=1)
    recipe = small_recipe(data, epochs=1, start=start, optimization=Optimization(learning_rate=0.1))
    train(recipe, tmp_path / "run")
    saved = state(tmp_path / "run")["task"]
    for name, value in saved.items():
        if name.endswith("running_mean") and ".backbone." in name:
            assert value.eq(0).all(), name
        if name.endswith("num_batches_tracked"):
            assert value == 0, name


def test_the_same_seed_gives_the_same_run_and_another_one_another(data: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(len(tmp_path.name) + seed)  # what was drawn before must not count
        train(small_recipe(data, epochs=1, seed=seed), tmp_path / name)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in "abc"]
    assert weights[0] == weights[1] != weights[2]


def test_bf16_and_loggers(data: Path, tmp_path: Path) -> None:
    """Not at 64 px: oneDNN (torch 2.14) leaves garbage in bf16 gradients of a convolution from one cell to one."""
    recipe = small_recipe(
        data,
        epochs=1,
        detector=replace(TINY, backbone_width=0.25),
        images=ImageOptions(letterbox=96),
        machine=Machine(accelerator="cpu", workers=0, precision="bf16", threads=1),
        logging=Logging(every=1, page=False, loggers=("csv", "tensorboard")),
    )
    train(recipe, tmp_path / "run")
    assert "gradient_norm" in (tmp_path / "run" / "csv" / "metrics.csv").read_text()
    assert list((tmp_path / "run" / "tensorboard").glob("events.*"))
    assert all(value.dtype != torch.bfloat16 for value in load(tmp_path / "run").state_dict().values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_names_the_term_and_the_images(
    value: float, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_losses(monkeypatch, lambda terms: {**terms, "box": terms["box"] * value})
    with pytest.raises(DivergedError, match=r"step 3, epoch 2: the loss term box is not a finite number") as stopped:
        train(small_recipe(data), tmp_path / "run")
    assert str(stopped.value).count(".png") == 4
    assert state(tmp_path / "run")["step"] == 2
    assert all(weights.isfinite().all() for weights in load(tmp_path / "run").state_dict().values())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """sqrt has no slope at 0, where its value is fine."""
    replace_losses(monkeypatch, lambda terms: {**terms, "box": terms["box"] + (terms["box"] * 0).sqrt()})
    with pytest.raises(DivergedError, match=r"step 3, epoch 2: the gradient is not finite, though the loss is"):
        train(small_recipe(data), tmp_path / "run")
    assert state(tmp_path / "run")["step"] == 2


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("can't allocate memory")]
)
def test_too_little_memory_says_what_to_lower(
    error: Exception, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> dict[str, Tensor]:
        raise error

    replace_losses(monkeypatch, fail)
    with pytest.raises(DetdistillError, match=r"out of memory .* accumulate"):
        train(small_recipe(data), tmp_path / "run")


def test_our_own_bugs_are_not_hidden(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: object) -> dict[str, Tensor]:
        raise RuntimeError("a bug")

    replace_losses(monkeypatch, fail)
    with pytest.raises(RuntimeError, match="a bug"):
        train(small_recipe(data), tmp_path / "run")


# Precision and threads


def test_what_is_auto_is_chosen_once_and_stands_in_the_runs_recipe(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def choice(task: Task, batch: Batch, recipe: Recipe, _: torch.device) -> Choice:
        assert task.training
        assert len(batch.indices) == recipe.batch_size
        calls.append(recipe.machine)
        return Choice("float32", 2, "because")

    monkeypatch.setattr("detdistill.training.run.choose", choice)
    before = torch.get_num_threads()
    recipe = small_recipe(data, epochs=1, machine=Machine(accelerator="cpu", workers=0))
    train(recipe, tmp_path / "run")
    assert torch.get_num_threads() == before
    kept = read_recipe(tmp_path / "run" / "recipe.yaml").machine
    assert (kept.precision, kept.threads) == ("float32", 2)
    train(recipe, tmp_path / "run")
    longer = replace(recipe, schedule=replace(recipe.schedule, epochs=2))
    assert train(longer, tmp_path / "run", resume=True).epochs == 2
    assert read_recipe(tmp_path / "run" / "recipe.yaml").machine == kept
    assert len(calls) == 1
    with pytest.raises(DetdistillError, match=r"machine.threads: 2 -> 1"):
        train(replace(longer, machine=replace(kept, threads=1)), tmp_path / "run")


def test_the_page_and_the_last_detector_are_kept(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scores fall after the first epoch, so that the last detector is another one than the best."""
    scores = iter([0.5, 0.25])

    def falling(*_: Any) -> tuple[CocoMetrics, Results]:
        metrics, results = score(*_)
        return replace(metrics, AP=next(scores)), results

    monkeypatch.setattr("detdistill.training.scores.score", falling)
    summary = train(small_recipe(data, epochs=2, logging=Logging(every=1)), tmp_path / "run")
    assert (summary.AP, summary.best_epoch) == (0.5, 1)
    assert read_description(tmp_path / "run").provenance["epoch"] == 1
    assert read_description(tmp_path / "run" / "last").provenance["epoch"] == 2
    assert load(tmp_path / "run" / "last").classes == ("green", "red")
    page = (tmp_path / "run" / "run.html").read_text()
    assert "Finished: 2 of 2 epochs, step 4 of 4." in page
    assert "Best AP 50.0 in epoch 1" in page


# Data


def test_one_image_and_batches_of_one(tmp_path: Path) -> None:
    recipe = small_recipe(write_boxes(tmp_path / "data", train=1, val=1), epochs=2, batch_size=1)
    assert train(recipe, tmp_path / "run").steps == 2


def test_a_batch_size_above_the_number_of_images_takes_them_all(tmp_path: Path) -> None:
    summary = train(small_recipe(write_boxes(tmp_path / "data", train=3), epochs=2), tmp_path / "run")
    assert summary.steps == 2


def test_a_split_without_images(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    change_annotations(data, "train", lambda content: content.update(images=[], annotations=[]))
    with pytest.raises(DataError, match="holds no image"):
        train(small_recipe(data), tmp_path / "run")


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_split_without_objects(part: str, tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    change_annotations(data, part, lambda content: content.update(annotations=[]))
    with pytest.raises(DataError) as caught:
        train(small_recipe(data), tmp_path / "run")
    assert [problem.where for problem in caught.value.problems] == [f"{data}/annotations/instances_{part}.json"]


def test_a_class_without_objects_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_boxes(tmp_path / "data")
    change_annotations(data, "train", lambda content: content["categories"].append({"id": 9, "name": "blue"}))
    train(small_recipe(data, epochs=1), tmp_path / "run")
    assert "no object of class 'blue'" in capsys.readouterr().err
    assert load(tmp_path / "run").classes == ("green", "red", "blue")


def test_classes_of_validation_go_by_name(tmp_path: Path) -> None:
    other = write_boxes(tmp_path / "data")

    def rename(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "gren"

    change_annotations(other, "val", rename)
    with pytest.raises(DataError, match="'gren'") as caught:
        train(small_recipe(other), tmp_path / "run")
    assert [problem.unit for problem in caught.value.problems] == ["class"]


# Folders


def test_another_recipes_run_is_refused_with_the_difference(data: Path, tmp_path: Path) -> None:
    recipe = small_recipe(data, epochs=1)
    train(recipe, tmp_path / "run")
    longer = replace(recipe, schedule=replace(recipe.schedule, epochs=2))
    with pytest.raises(DetdistillError, match=r"another recipe .*\n  schedule.epochs: 1 -> 2\n.*--resume"):
        train(longer, tmp_path / "run")
    assert train(longer, tmp_path / "run", resume=True).steps == 4
    wider = replace(longer, detector=replace(TINY, pyramid=FeaturePyramid(channels=32)))
    with pytest.raises(DetdistillError, match=r"cannot go on with another detector.pyramid.channels"):
        train(wider, tmp_path / "run", resume=True)
    assert train(wider, tmp_path / "run", overwrite=True).steps == 4


def test_a_run_cannot_end_before_where_it_is(data: Path, tmp_path: Path) -> None:
    recipe = small_recipe(data, epochs=2)
    train(recipe, tmp_path / "run")
    shorter = replace(recipe, schedule=replace(recipe.schedule, epochs=1))
    with pytest.raises(DetdistillError, match=r"cannot go on with fewer epochs \(schedule.epochs 2 -> 1\)"):
        train(shorter, tmp_path / "run", resume=True)
    assert train(recipe, tmp_path / "run").steps == 4


def test_a_file_is_no_folder_and_resume_is_not_overwrite(data: Path, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("dear")
    with pytest.raises(DetdistillError, match="run is a file"):
        train(small_recipe(data), tmp_path / "run", overwrite=True)
    with pytest.raises(DetdistillError, match="give one of them"):
        train(small_recipe(data), tmp_path / "other", resume=True, overwrite=True)
    assert not (tmp_path / "other").exists()


def test_other_files_are_left_alone(data: Path, tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(DetdistillError, match=r"no run \(no recipe.yaml\)"):
            train(small_recipe(data), tmp_path, overwrite=overwrite)
    assert (tmp_path / "letter.txt").read_text() == "dear"


def test_changed_data_and_a_damaged_checkpoint_stop_a_resumed_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = write_boxes(tmp_path / "data")
    with monkeypatch.context() as patch:
        replace_losses(patch, lambda terms: {**terms, "box": terms["box"] * float("nan")})
        with pytest.raises(DivergedError):
            train(small_recipe(data), tmp_path / "run")
    change_annotations(data, "train", lambda content: content["annotations"].pop())
    with pytest.raises(DetdistillError, match="is not what this run was started on"):
        train(small_recipe(data), tmp_path / "run")
    checkpoint = tmp_path / "run" / "resume" / "state.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:2000])
    with pytest.raises(DetdistillError, match=r"state.ckpt is damaged"):
        train(small_recipe(data), tmp_path / "run")
