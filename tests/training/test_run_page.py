from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.evaluation.evaluating import Evaluation
from detdistill.training.closing import closing_words
from detdistill.training.recipe import Recipe
from detdistill.training.recipe_file import write_recipe
from detdistill.training.run import distill
from detdistill.training.run_folder import RunFolder
from detdistill.training.run_page import command_line, write_run_page
from detdistill.training.run_progress import Progress
from support.evaluations import boxes_dataset, guessed
from support.html_page import Page
from support.small_runs import small_distillation, small_recipe, write_boxes, write_teacher

NASTY = '<b>"x"</b> & {{ 7 }} \x1b[1m\u202e'
SHOWN = '<b>"x"</b> & {{ 7 }} �[1m�'
GOING = Progress(state="training", epoch=1, step=2, total_steps=8, seconds=10, remaining=30)
DONE = Progress(state="finished", epoch=4, step=8, total_steps=8, seconds=40)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_boxes(tmp_path / "data", train=1, val=4)


def folder(tmp_path: Path, name: str = "run") -> RunFolder:
    run = RunFolder(tmp_path / name)
    run.path.mkdir()
    return run


def log_steps(run: RunFolder, steps: Sequence[int], **terms: float) -> None:
    for step in steps:
        loss = {"loss": 1 / step, "classification": 0.5 / step, "gradient_norm": 2.0, "learning_rate": 0.01}
        run.log(step=step, epoch=1, **loss, **terms)


def log_scores(run: RunFolder, aps: Sequence[float | None], classes: Sequence[str] = ("green", "red")) -> None:
    for epoch, ap in enumerate(aps, 1):
        scores = {"AP": ap, "AP50": ap, "AP75": ap, "AP50_per_class": dict.fromkeys(classes, ap)}
        run.log(step=2 * epoch, epoch=epoch, **scores)


def written(run: RunFolder, recipe: Recipe, evaluation: Evaluation | None = None, progress: Progress = GOING) -> Page:
    write_run_page(run, recipe, evaluation, progress)
    assert run.page.stat().st_size < 2_000_000
    assert list(run.path.glob(".*")) == []
    page = Page(run.page)
    addresses = [
        value for _, attributes in page.elements for key, value in attributes.items() if key in ("src", "href")
    ]
    assert all(str(address).startswith("data:image/") for address in addresses)
    assert page.of("link") == page.of("script") == page.of("b") == []
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.of("meta")
    return page


def drawn(page: Page) -> list[str]:
    """What each chart shows."""
    return [str(chart["aria-label"]).partition(" over ")[0] for chart in page.of("svg")]


def test_the_page_of_the_first_epoch_has_a_point_in_every_chart(tmp_path: Path, data: Path) -> None:
    run = folder(tmp_path)
    log_steps(run, [2])
    log_scores(run, [0.123])
    page = written(run, small_recipe(data), guessed(boxes_dataset(data)))
    assert drawn(page)[:2] == ["loss", "AP on the validation set"]
    assert {"loss: classification", "learning rate", "gradient norm, before clipping"} < set(drawn(page))
    assert len(page.of("circle")) >= 5
    assert "nan" not in " ".join(str(line["points"]) for line in page.of("polyline"))
    assert "12.3" in page.text
    assert "1 of 3 epochs" in page.text
    assert "25 %" in page.text
    assert "0:00:30" in page.text
    assert any(meta.get("http-equiv") == "refresh" for meta in page.of("meta"))


def test_the_numbers_are_those_of_the_log_and_of_the_evaluation(tmp_path: Path, data: Path) -> None:
    run, evaluation = folder(tmp_path), guessed(boxes_dataset(data))
    log_steps(run, [1, 2, 4])
    log_scores(run, [0.111, 0.444, 0.222])
    page = written(run, small_recipe(data, epochs=4, seed=77), evaluation, replace(DONE, teacher_ap=0.555))
    for number in ("44.4", "epoch 2", "22.2", "55.5", "77"):
        assert number in page.text
    assert "teacher's AP" in page.text
    for scores in evaluation.scores.per_class.values():
        assert f"{100 * (scores.AP or 0):.1f}" in page.text
    ground_truth = len(evaluation.dataset.images.labels)
    counts = [int(cell) for cell in re.findall(r'of the row">(\d+)</td>', run.page.read_text())]
    assert sum(counts) >= ground_truth
    assert len(page.of("img")) == 4
    assert not any("http-equiv" in meta for meta in page.of("meta"))


def test_terms_of_a_distillation_are_drawn_weighted_raw_and_with_their_weight(tmp_path: Path, data: Path) -> None:
    run = folder(tmp_path)
    taught = {f"hint{key}": value for key, value in {"": 0.2, "/raw": 0.1, "/weight": 2.0}.items()}
    log_steps(run, [1, 2], **taught)
    page = written(run, small_distillation(data, tmp_path / "teacher"))
    assert [name for name in drawn(page) if "hint" in name] == ["hint, weighted", "hint, raw", "hint, weight"]
    assert "loss: hint" not in drawn(page)
    assert str(tmp_path / "teacher") in page.text


def test_the_log_of_a_real_run_is_read(tmp_path: Path) -> None:
    data = write_boxes(tmp_path / "boxes")
    recipe = small_distillation(data, write_teacher(tmp_path / "teacher"), epochs=1, terms={"hint": {}})
    summary = distill(recipe, None, tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    page = written(run, recipe, None, replace(DONE, epoch=1))
    assert {"loss", "AP on the validation set", "learning rate", "hint, raw", "hint, weight"} < set(drawn(page))
    assert f"Best AP {100 * (summary.AP or 0):.1f} in epoch 1" in page.text
    assert all(name in page.text for name in ("green", "red"))
    assert any(line.startswith("weakest") for line in closing_words(run, recipe, summary))


def test_a_run_without_validation_has_curves_alone(tmp_path: Path, data: Path) -> None:
    run, recipe = folder(tmp_path), small_recipe(data)
    log_steps(run, [1, 2])
    page = written(run, replace(recipe, data=replace(recipe.data, val=None)))
    assert "AP on the validation set" not in drawn(page)
    assert page.of("img") == page.of("table") == []


def test_a_resumed_run_shows_the_logged_scores_of_the_classes_until_it_is_evaluated(tmp_path: Path, data: Path) -> None:
    run = folder(tmp_path)
    log_steps(run, [1, 2])
    log_scores(run, [None, 0.25], ("green", NASTY, "z" * 1000))
    page = written(run, small_recipe(data))
    assert SHOWN in page.text
    assert "25.0" in page.text
    assert "z" * 100 not in page.text
    assert len(page.of("td")) == 6


def test_before_anything_is_logged_there_is_a_page(tmp_path: Path, data: Path) -> None:
    page = written(folder(tmp_path), small_recipe(data))
    assert page.of("svg") == []
    assert "0 of 3 epochs" in written(folder(tmp_path, "b"), small_recipe(data), None, replace(GOING, epoch=0)).text


def test_a_torn_line_and_values_that_are_not_finite_break_nothing(tmp_path: Path, data: Path) -> None:
    run = folder(tmp_path)
    log_steps(run, [1, 2], broken=float("nan"))
    log_scores(run, [None])
    with run.metrics.open("a") as file:
        file.write('[]\n7\nnull\n{"step": 3}\n{"step": 4, "epoch": 1, "lo')
    page = written(run, small_recipe(data))
    assert "loss" in drawn(page)
    assert "loss: broken" not in drawn(page)


@pytest.mark.parametrize("count", [1, 80])
def test_hostile_names_are_shown_as_they_are_and_bounded(tmp_path: Path, count: int) -> None:
    data = write_boxes(tmp_path / "data" / NASTY.replace("/", "_"), train=1, val=2)
    classes = (NASTY, *(f"{'x' * 100_000}{number}" for number in range(1, count)))
    dataset = boxes_dataset(data, classes) if count > 1 else boxes_dataset(data, (NASTY, "red"))
    evaluation = guessed(dataset)
    run = folder(tmp_path, NASTY.replace("/", "_"))
    log_scores(run, [0.5], dataset.classes)
    recipe = small_recipe(data)
    page = written(run, replace(recipe, data=replace(recipe.data, train=f"{NASTY}{'y' * 100_000}")), evaluation)
    assert SHOWN in page.text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]", page.text)
    assert len(page.text) < 200_000


def test_thousands_of_lines_are_thinned_and_extremes_stay(tmp_path: Path, data: Path) -> None:
    run = folder(tmp_path)
    lines = [{"step": step, "epoch": 1, "loss": 100.0 if step == 777 else 1.0} for step in range(1, 20_001)]
    run.metrics.write_text("".join(json.dumps(line) + "\n" for line in lines))
    page = written(run, small_recipe(data))
    assert run.page.stat().st_size < 60_000
    assert sum(len(str(line["points"]).split()) for line in page.of("polyline")) < 600
    assert ">100</text>" in run.page.read_text()


def test_states(tmp_path: Path, data: Path) -> None:
    recipe = small_recipe(data, epochs=4)
    patient = replace(recipe, evaluation=replace(recipe.evaluation, patience=2))
    run = folder(tmp_path)
    texts = {
        "done": written(run, recipe, None, DONE).text,
        "early": written(run, patient, None, replace(DONE, epoch=3)).text,
        "interrupted": written(run, recipe, None, replace(GOING, state="interrupted")).text,
    }
    assert "Finished: 4 of 4 epochs" in texts["done"]
    assert "stopped early" in texts["early"]
    assert "stopped early" not in texts["done"]
    assert "Interrupted: 1 of 4 epochs" in texts["interrupted"]


def test_the_page_tells_how_it_was_made(tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/usr/bin/detdistill", "train", "a recipe.yaml", "--out", "x"])
    run, recipe = folder(tmp_path), small_recipe(data)
    write_recipe(recipe, run.recipe)
    page = written(run, recipe)
    assert "detdistill train 'a recipe.yaml' --out x" in page.text
    assert "torch " in page.text
    assert run.recipe.read_text() in page.text
    assert len(page.of("details")) == 1


@pytest.mark.parametrize(
    ("argv", "shown"), [(["my train.py", "1"], "python 'my train.py' 1"), ([""], "python ''"), ([], "python ''")]
)
def test_other_programs_are_shown_with_their_interpreter(
    argv: list[str], shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", argv)
    assert command_line() == shown


def test_a_page_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path, data: Path) -> None:
    run: Any = folder(tmp_path)
    run.page.mkdir()
    (run.page / "x").touch()
    with pytest.raises(DetdistillError, match=r"run\.html"):
        write_run_page(run, small_recipe(data), None, GOING)
