from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detdistill.cli import build_app
from detdistill.cli.parser import parse
from detdistill.training.closing import closing_words
from detdistill.training.recipe import Data, Evaluation, Recipe, Schedule
from detdistill.training.run_folder import RunFolder
from detdistill.training.summary import Summary
from support.small_runs import small_distillation, small_recipe, write_boxes

DONE = Summary(epochs=8, steps=800, AP=None, best_epoch=None, seconds=3723)


def run_with(folder: Path, aps: Sequence[float | None], names: Sequence[str] = ("green", "red")) -> RunFolder:
    """A run folder whose log has these APs, epoch by epoch; the first class is the worst."""
    run = RunFolder(folder / "runs" / "a run")
    run.path.mkdir(parents=True)
    for epoch, ap in enumerate(aps, 1):
        by_class = {name: (ap or 0.0) + place / 100 for place, name in enumerate(names)}
        run.log(step=100 * epoch, epoch=epoch, AP=ap, AP50=ap, AP50_per_class=by_class)
    return run


def recipe_of(data: Path, *, epochs: int = 8, **changes: Any) -> Recipe:
    recipe = small_recipe(data, epochs=epochs)
    return replace(recipe, data=replace(recipe.data, **changes))


def commands(lines: Sequence[str]) -> list[list[str]]:
    """The words of each command in the lines."""
    return [shlex.split(line[line.index("detdistill ") :]) for line in lines if "detdistill " in line]


def options(command: Sequence[str]) -> dict[str, str]:
    return {word: value for word, value in zip(command, [*command[1:], ""], strict=True) if word.startswith("--")}


@pytest.mark.parametrize("part", ["val", "valid.json", None])
@pytest.mark.parametrize("decay", ["step", "cosine"])
def test_all_commands_parse_and_there_are_ten_lines_at_most(tmp_path: Path, part: str | None, decay: Any) -> None:
    data = write_boxes(tmp_path / "the data", test=2)
    run = run_with(tmp_path, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8] if part else [], ("a", "b", "c", "d"))
    run.page.touch()
    recipe = small_distillation(data, tmp_path / "teacher", epochs=8)
    recipe = replace(
        recipe,
        data=Data(str(data), val=part, val_images="val" if part else None, rescale=True, follow_links=True),
        schedule=Schedule(epochs=8, decay=decay),
    )
    lines = closing_words(run, recipe, replace(DONE, teacher_ap=0.9))
    assert len(lines) <= 10
    found = commands(lines)
    for command in found:
        parse(build_app(), command[1:])
    verbs = {command[1] for command in found}
    assert verbs == {"evaluate", "predict", "export"} | ({"distill"} if part else set())


def test_commands_name_the_run_and_a_split_that_chose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = write_boxes(tmp_path / "data", test=2)
    run = run_with(tmp_path, [0.1])
    found = commands(closing_words(run, recipe_of(data), DONE))
    assert all(str(Path("runs/a run")) in command for command in found)
    report, thresholds, *_ = found
    assert options(report) | {"--data": str(data), "--split": "test"} == options(report)
    assert options(thresholds) | {"--data": str(data), "--split": "val", "--store-thresholds": ""} == options(
        thresholds
    )


@pytest.mark.parametrize("changes", [{"val": "test"}, {"path": "/no/such/dataset"}, {}])
def test_without_such_a_split_none_is_named(tmp_path: Path, changes: dict[str, Any]) -> None:
    data = write_boxes(tmp_path / "data", **({"test": 2} if changes.get("val") else {}))
    report, *_ = commands(closing_words(run_with(tmp_path, [0.1]), recipe_of(data, **changes), DONE))
    assert "--split" not in report
    parse(build_app(), report[1:])


def test_the_best_epoch_is_the_latest_of_equals(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    words = "\n".join(closing_words(run_with(tmp_path, [0.123, 0.456, 0.456, 0.45]), recipe_of(data), DONE))
    assert "45.6" in words
    assert "epoch 3;" in words
    assert "1:02:03" in words


def test_the_teacher_is_compared(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    run = run_with(tmp_path, [0.4])
    words = "\n".join(closing_words(run, recipe_of(data), replace(DONE, teacher_ap=0.5)))
    assert "50.0" in words
    assert "-10.0" in words
    assert "80 %" in words
    assert closing_words(run, recipe_of(data), replace(DONE, teacher_ap=0.0))  # nothing is divided by it


@pytest.mark.parametrize(
    ("aps", "said"),
    [
        ([0.1, 0.2, 0.3, 0.35], "train longer"),
        ([0.1, 0.3, 0.301, 0.302], "hardly changed"),
        ([0.1, 0.3, 0.25, 0.2], "AP fell by 10.0 after epoch 2"),
        ([0.1, 0.2, 0.3], None),
        ([None, None, None, None], "hardly changed"),
    ],
)
def test_how_ap_went_at_the_end(tmp_path: Path, aps: list[float | None], said: str | None) -> None:
    data = write_boxes(tmp_path / "data")
    words = "\n".join(closing_words(run_with(tmp_path, aps), recipe_of(data), DONE))
    kinds = ("train longer", "hardly changed", "AP fell")
    assert [kind for kind in kinds if kind in words] == (
        [] if said is None else [k for k in kinds if said.startswith(k)]
    )
    assert said is None or said in words


def test_an_early_stop_is_told_and_no_more_epochs_are_advised(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    recipe = replace(recipe_of(data), evaluation=Evaluation(patience=3))
    lines = closing_words(run_with(tmp_path, [0.1, 0.2, 0.3, 0.4]), recipe, replace(DONE, epochs=4))
    assert "stopped early after 3" in lines[0]
    assert not any("train longer" in line for line in lines)
    assert "stopped" not in closing_words(RunFolder(tmp_path / "runs" / "a run"), recipe, DONE)[0]


def test_the_weakest_classes_are_named_but_never_all(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    names = ["worst", "x" * 1000, "third", "best"]
    lines = closing_words(run_with(tmp_path, [0.2], names), recipe_of(data), DONE)
    (line,) = [line for line in lines if line.startswith("weakest")]
    assert "worst 20.0" in line
    assert "third 22.0" in line
    assert "best" not in line
    assert len(line) < 200
    one = run_with(tmp_path / "other", [0.2], ["only"])
    assert not any(line.startswith("weakest") for line in closing_words(one, recipe_of(data), DONE))


def test_torn_lines_of_the_log_are_left_out(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "data")
    run = run_with(tmp_path, [0.5])
    with run.metrics.open("a") as file:
        file.write(json.dumps([1]) + "\n" + '{"step": 9, "AP": 0.9')
    assert "50.0" in closing_words(run, recipe_of(data), DONE)[1]
