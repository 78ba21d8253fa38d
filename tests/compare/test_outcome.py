from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from detdistill.compare import outcome as outcome_module
from detdistill.compare.outcome import FILE, read_outcome, run_cell
from detdistill.compare.plan import BASELINE, Plan
from detdistill.core.errors import DetdistillError
from detdistill.training import run
from detdistill.training.recipe import Recipe
from detdistill.training.run_folder import RunFolder
from detdistill.training.summary import Summary
from support.small_runs import lines, small_distillation, write_boxes, write_teacher


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Plan, Path]:
    """A comparison of one seed, with its finished runs; `hint` has an adapter, which draws random weights."""
    folder = tmp_path_factory.mktemp("compare")
    data, teacher = write_boxes(folder / "data"), write_teacher(folder / "teacher")
    recipe = small_distillation(data, teacher, epochs=1)
    plan = Plan({"boxes": recipe}, {BASELINE: {}, "hint": {"hint": {}}, "pfi": {"prediction_guided": {}}}, (3,))
    for cell in plan.cells():
        run_cell(plan, cell, folder / "out")
    return plan, folder / "out"


def test_runs_of_one_seed_start_alike(made: tuple[Plan, Path]) -> None:
    """The first step's detection loss is a matter of weights, images and variations: all are the same."""
    plan, out = made
    first = [lines(cell.folder(out))[0] for cell in plan.cells()]
    assert len({(line["classification"], line["box"]) for line in first}) == 1
    weights = {(cell.folder(out) / "model.safetensors").read_bytes() for cell in plan.cells()}
    assert len(weights) == 3, "and then they part"


def test_what_is_kept(made: tuple[Plan, Path]) -> None:
    plan, out = made
    outcome = read_outcome(plan, plan.cells()[1], out)
    assert outcome is not None
    assert (outcome.setting, outcome.method, outcome.seed, outcome.report_on) == ("boxes", "hint", 3, "val")
    assert set(outcome.scores["per_class"]) == {"green", "red"}
    assert outcome.scores["AP"] is not None
    assert outcome.steps == 2
    assert outcome.weights["hint"] > 0
    assert outcome.peak_memory_mib > 50
    assert outcome.threads >= 1


def test_a_finished_run_stays_as_it_is(made: tuple[Plan, Path]) -> None:
    plan, out = made
    cell = plan.cells()[0]
    weights = cell.folder(out) / "model.safetensors"
    before = weights.stat().st_mtime_ns, (cell.folder(out) / FILE).stat().st_mtime_ns
    assert run_cell(plan, cell, out) == read_outcome(plan, cell, out)
    assert (weights.stat().st_mtime_ns, (cell.folder(out) / FILE).stat().st_mtime_ns) == before


def test_other_splits_are_scored_anew_without_training(made: tuple[Plan, Path]) -> None:
    plan, out = made
    cell = plan.cells()[2]
    weights = cell.folder(out) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    data = Path(plan.settings["boxes"].data.path)
    shutil.copytree(data / "val", data / "other")
    shutil.copy(data / "annotations" / "instances_val.json", data / "annotations" / "instances_other.json")
    other = replace(plan, select_on="other")
    assert read_outcome(other, cell, out) is None
    outcome = run_cell(other, cell, out)
    assert outcome.selection == outcome.scores
    assert weights.stat().st_mtime_ns == before


def test_a_damaged_record_is_named(made: tuple[Plan, Path]) -> None:
    plan, out = made
    cell = plan.cells()[0]
    file = cell.folder(out) / FILE
    whole = file.read_text()
    file.write_text(json.dumps({"AP": 1}))
    with pytest.raises(DetdistillError, match=f"{FILE} is damaged.*remove it"):
        read_outcome(plan, cell, out)
    file.write_text(whole)


def test_a_run_of_another_recipe_is_refused(made: tuple[Plan, Path]) -> None:
    plan, out = made
    other = replace(plan, settings={"boxes": replace(plan.settings["boxes"], batch_size=2)})
    assert read_outcome(other, plan.cells()[0], out) is None
    with pytest.raises(DetdistillError, match="holds a run of another recipe"):
        run_cell(other, plan.cells()[0], out)


@pytest.mark.parametrize("finishes", [True, False])
def test_a_run_waits_for_another_process_in_its_folder(
    made: tuple[Plan, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, finishes: bool
) -> None:
    """It takes the other's outcome, or resumes what the other left."""
    plan, finished = made
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    cell = plan.cells()[0]
    file = cell.folder(out) / FILE
    file.rename(tmp_path / FILE)
    trained: list[bool] = []

    def train(recipe: Recipe, folder: Path) -> Summary:
        trained.append(True)
        return run.train(recipe, folder)

    monkeypatch.setattr(outcome_module, "train", train)
    other = FileLock(RunFolder(cell.folder(out)).lock, thread_local=False).acquire().lock
    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(run_cell, plan, cell, out)
        with pytest.raises(TimeoutError):
            waiting.result(timeout=1)
        assert trained == []
        if finishes:
            (tmp_path / FILE).rename(file)
        other.release()
        assert waiting.result().scores == run_cell(plan, cell, finished).scores
    assert trained == ([] if finishes else [True])
