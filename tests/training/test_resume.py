from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.structures import ReduceSum
from detdistill.evaluation.score import score
from detdistill.training.distillation_settings import Unlabelled
from detdistill.training.interruption import Interrupted
from detdistill.training.loop import Loop
from detdistill.training.recipe import Evaluation, Logging, Recipe
from detdistill.training.recipe_file import read_recipe
from detdistill.training.run import distill, train
from support.processes import run_one
from support.small_runs import (
    assert_equal_runs,
    at_step,
    lines,
    small_distillation,
    small_recipe,
    state,
    write_boxes,
    write_confident_teacher,
)

STEPS = 6  # 3 epochs of 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_boxes(tmp_path_factory.mktemp("boxes"))


@pytest.fixture(scope="module")
def recipe(data: Path) -> Recipe:
    """With momentum, moving averages, two learning rates, random crops and colours."""
    return small_recipe(data)


@pytest.fixture(scope="module")
def whole(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(recipe, folder)
    return folder


def raise_signal(number: int) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize("step", range(1, STEPS + 1))
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_after_any_step_goes_on_to_the_same_end(
    step: int, number: int, recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, step, raise_signal(number))
        with pytest.raises(Interrupted, match=f"after step {step}; everything is saved") as stopped:
            train(recipe, tmp_path / "run")
    assert stopped.value.exit_status == 128 + number
    assert state(tmp_path / "run")["step"] == step
    train(recipe, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", whole)


def test_two_loading_processes_change_nothing(
    recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = replace(recipe, machine=replace(recipe.machine, workers=2))
    with monkeypatch.context() as patch:
        at_step(patch, 3, raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(busy, tmp_path / "run")
    train(busy, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", whole)


def test_unlabelled_images_come_again_in_the_same_order(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And with the thresholds that were found when the run began."""
    write_boxes(tmp_path / "more", train=5, side=80)
    teacher = write_confident_teacher(tmp_path / "teacher")
    unlabelled = Unlabelled(str(tmp_path / "more" / "train"))
    recipe: Recipe = small_distillation(data, teacher, terms={"rank_mimicking": {}}, unlabelled=unlabelled, epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr("detdistill.training.distilled.best_thresholds", lambda *_: {"green": 0.3, "red": 0.4})
        distill(recipe, None, tmp_path / "whole")
        at_step(patch, 3, raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            distill(recipe, None, tmp_path / "run")
    found = read_recipe(tmp_path / "run" / "recipe.yaml").distillation.unlabelled
    assert found is not None
    assert found.threshold == {"green": 0.3, "red": 0.4}
    with monkeypatch.context() as patch:
        patch.setattr("detdistill.training.distilled.best_thresholds", None)
        distill(recipe, None, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", tmp_path / "whole")
    assert all(line["pseudo_classification"] > 0 for line in lines(tmp_path / "run") if "loss" in line)
    assert len(lines(tmp_path / "run")) > STEPS


def test_what_a_step_draws_does_not_depend_on_the_interruption(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As dropout does; an epoch's end and the middle of one."""
    losses = Loop.batch_losses

    def noisy(self: Loop, batch: Any, reduce_sum: ReduceSum) -> dict[str, Tensor]:
        return {name: term * torch.rand(()) for name, term in losses(self, batch, reduce_sum).items()}

    monkeypatch.setattr(Loop, "batch_losses", noisy)
    train(recipe, tmp_path / "whole")
    assert len({line["box"] for line in lines(tmp_path / "whole") if "box" in line}) == STEPS
    for step in (3, 4):
        with monkeypatch.context() as patch:
            at_step(patch, step, raise_signal(signal.SIGTERM))
            with pytest.raises(Interrupted):
                train(recipe, tmp_path / str(step))
        train(recipe, tmp_path / str(step))
        assert_equal_runs(tmp_path / str(step), tmp_path / "whole")


@pytest.mark.parametrize(("step", "saved"), [(2, None), (4, 2), (6, 5)])
def test_killed_without_warning(step: int, saved: int | None, recipe: Recipe, whole: Path, tmp_path: Path) -> None:
    """kill -9 in a step; what is left is the last checkpoint, of an epoch's end or of the interval."""
    by_step = replace(recipe, logging=Logging(every=1, page=False, save_every=5))
    assert run_one(train_until_killed, by_step, tmp_path / "run", step) == -signal.SIGKILL
    if saved is None:
        assert not (tmp_path / "run" / "resume" / "state.ckpt").exists()
    else:
        assert state(tmp_path / "run")["step"] == saved
    train(by_step, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", whole)


def train_until_killed(recipe: Recipe, folder: Path, step: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        at_step(patch, step, raise_signal(signal.SIGKILL))
        train(recipe, folder)


@pytest.mark.parametrize("evaluation", [1, 2, 3])
def test_stopped_while_scores_are_taken(
    evaluation: int, recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, for scores can take minutes; the resumed run takes them first, also after the last step."""
    calls: list[Any] = []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == evaluation:
            os.kill(os.getpid(), signal.SIGTERM)
        return score(*arguments)

    monkeypatch.setattr("detdistill.training.scores.score", interrupted)
    with pytest.raises(Interrupted, match=f"after step {2 * evaluation}"):
        train(recipe, tmp_path / "run")
    train(recipe, tmp_path / "run")
    assert len(calls) == 4
    assert_equal_runs(tmp_path / "run", whole)


def test_full_disk_leaves_the_checkpoint_before(
    recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = []

    def full(path: Path, content: bytes) -> None:
        writes.append(path)
        if len(writes) == 2:
            path.with_name(f".{path.name}.1.tmp").write_bytes(content[:1000])
            raise DetdistillError(f"{path} cannot be written: No space left on device")
        write_atomically(path, content)

    with monkeypatch.context() as patch:
        patch.setattr("detdistill.training.checkpoint.write_atomically", full)
        with pytest.raises(DetdistillError, match="No space left on device"):
            train(recipe, tmp_path / "run")
    assert state(tmp_path / "run")["step"] == 2
    train(recipe, tmp_path / "run")
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert_equal_runs(tmp_path / "run", whole)


def test_a_line_torn_by_a_kill_is_written_again(
    recipe: Recipe, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        at_step(patch, 3, raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(recipe, tmp_path / "run")
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "epoch"')
    train(recipe, tmp_path / "run")
    assert_equal_runs(tmp_path / "run", whole)


def test_a_finished_run_stays_as_it_is(recipe: Recipe, whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Loop, "batch_losses", None)
    summary = train(recipe, whole)
    assert (summary.epochs, summary.steps) == (3, STEPS)


def test_early_stopping_survives_an_interruption(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """AP stays 0: the second evaluation without a gain is that of epoch 3."""
    patient = replace(recipe, evaluation=Evaluation(patience=2), schedule=replace(recipe.schedule, epochs=9))
    with monkeypatch.context() as patch:
        at_step(patch, 4, raise_signal(signal.SIGTERM))
        with pytest.raises(Interrupted):
            train(patient, tmp_path / "run")
    assert train(patient, tmp_path / "run").epochs == 3
