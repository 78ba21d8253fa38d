from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detdistill.compare import machine_values
from detdistill.compare.machine_values import FILE, threads_of, with_machine_values
from detdistill.compare.plan import BASELINE, Plan, Terms
from detdistill.core.errors import SettingsError
from detdistill.data.loading import Batch
from detdistill.training.distillation_settings import Distillation
from detdistill.training.probe import Choice
from detdistill.training.recipe import Data, Machine, Recipe
from detdistill.training.task import Supervised
from support.small_runs import small_distillation, write_boxes, write_teacher

METHODS: dict[str, Terms] = {BASELINE: {}, "hint": {"hint": {}}, "both": {"pearson": {}, "soft_label": {}}}
RECIPE = Recipe(Data("d"), distill=Distillation("t"))
AUTO = Machine("cpu")


def plan(machine: Machine = AUTO, recipe: Recipe = RECIPE) -> Plan:
    return Plan({name: replace(recipe, machine=machine) for name in ("a", "b")}, METHODS, (0, 1), report_on="test")


def machines(plan: Plan) -> list[tuple[Any, Any]]:
    return [(recipe.machine.precision, recipe.machine.threads) for recipe in plan.settings.values()]


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes for which steps were measured: `bf16`, and two threads unless the recipe has a number."""
    asked: list[Recipe] = []

    def choose(_: Plan, recipe: Recipe) -> Choice:
        asked.append(recipe)
        threads = recipe.machine.threads
        return Choice("bf16", 2 if threads == "auto" else threads, "so it was measured")

    monkeypatch.setattr(machine_values, "_measured", choose)
    return asked


def test_each_setting_is_measured_once(
    measured: list[Recipe], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = with_machine_values(plan(), tmp_path)
    assert machines(found) == [("bf16", 2), ("bf16", 2)]
    assert len(measured) == 2
    assert "so it was measured" in capsys.readouterr().err
    assert {threads_of(found.recipe(cell)) for cell in found.cells()} == {2}
    assert with_machine_values(plan(), tmp_path) == found
    assert with_machine_values(found, tmp_path) == found
    assert with_machine_values(plan(), tmp_path, jobs=4) == found, "what was begun goes on as it was begun"
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("machine", "options", "expected", "count"),
    [
        (Machine(precision="float32", threads=3), {}, ("float32", 3), 0),
        (Machine(precision="float32"), {"jobs": 2}, ("float32", 1), 0),
        (Machine(precision="float32", threads=3), {"jobs": 2}, ("float32", 3), 0),
        (Machine(threads=3), {"threads": 5}, ("bf16", 5), 2),
        (AUTO, {"jobs": 2}, ("bf16", 1), 2),
        (AUTO, {"jobs": 2, "threads": 3}, ("bf16", 3), 2),
        (Machine(precision="float32"), {"threads": 3}, ("float32", 3), 0),
    ],
)
def test_only_what_is_auto_is_measured(
    machine: Machine,
    options: dict[str, Any],
    expected: tuple[str, int],
    count: int,
    measured: list[Recipe],
    tmp_path: Path,
) -> None:
    found = with_machine_values(plan(machine), tmp_path, **options)
    assert machines(found) == [expected, expected]
    assert len(measured) == count
    assert machines(with_machine_values(plan(), tmp_path)) == [expected, expected]
    assert len(measured) == count


def test_one_run_needs_its_own_setting_only(measured: list[Recipe], tmp_path: Path) -> None:
    found = with_machine_values(plan(), tmp_path, setting="b")
    assert machines(found) == [("auto", "auto"), ("bf16", 2)]
    assert len(measured) == 1


def test_jobs_of_a_cluster_that_start_at_the_same_time_measure_once(measured: list[Recipe], tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: with_machine_values(plan(), tmp_path, setting="a"), range(4)))
    assert {machines(each)[0] for each in found} == {("bf16", 2)}
    assert len(measured) == 1


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("machine", "options", "key"),
    [
        (AUTO, {"threads": 3}, "machine.threads"),
        (Machine(threads=1), {}, "machine.threads"),
        (Machine(precision="float32"), {}, "machine.precision"),
    ],
)
def test_other_values_than_those_of_begun_runs_are_refused(
    machine: Machine, options: dict[str, Any], key: str, tmp_path: Path
) -> None:
    with_machine_values(plan(), tmp_path)
    asked = plan(machine)
    begun = asked.cells()[0].folder(tmp_path)
    begun.mkdir(parents=True)
    (begun / "recipe.yaml").touch()
    with pytest.raises(SettingsError, match=key) as refused:
        with_machine_values(asked, tmp_path, **options)
    assert refused.value.place == str(tmp_path / "a")
    (begun / "recipe.yaml").unlink()
    assert machines(with_machine_values(asked, tmp_path, **options))[0] != ("bf16", 2)


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"precision": "half", "threads": 1}', '{"threads": 1}', '{"precision": "bf16"}', "\x00"]
)
def test_a_damaged_file_is_named(content: str, measured: list[Recipe], tmp_path: Path) -> None:
    file = tmp_path / "a" / FILE
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(SettingsError) as damaged:
        with_machine_values(plan(), tmp_path)
    assert damaged.value.place == str(file)
    assert measured == []


@pytest.mark.parametrize(
    ("channels_last", "channels", "terms"),
    [(True, 16, {"hint", "pearson", "soft_label"}), (False, 24, {"hint"})],  # pearson needs as many channels
)
def test_the_student_with_the_terms_of_all_usable_methods_is_measured(
    channels_last: bool, channels: int, terms: set[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: list[tuple[Any, Batch, Recipe]] = []

    def note(task: nn.Module, batch: Batch, recipe: Recipe, device: torch.device) -> Choice:
        assert device.type == "cpu"
        seen.append((task, batch, recipe))
        return Choice("float32", 1, "noted")

    monkeypatch.setattr(machine_values, "choose", note)
    recipe = small_distillation(write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher", channels=channels))
    recipe = replace(recipe, start=replace(recipe.start, batch_norm="eval"))
    asked = plan(Machine("cpu", channels_last=channels_last), recipe)
    found = with_machine_values(asked, tmp_path / "out", setting="a")
    ((task, batch, _),) = seen
    assert set(task.distiller.terms) == terms
    assert len(batch.indices) == recipe.batch_size
    assert len(batch.targets.labels) > 0
    assert task.training
    assert not any(part.training for part in task.detector.modules() if isinstance(part, nn.BatchNorm2d))
    kernel = next(
        part.weight for part in task.detector.modules() if isinstance(part, nn.Conv2d) and part.in_channels > 1
    )
    assert kernel.is_contiguous(memory_format=torch.channels_last) is channels_last
    assert machines(found)[0] == ("float32", 1)
    assert json.loads((tmp_path / "out" / "a" / FILE).read_text()) == {"precision": "float32", "threads": 1}


def test_without_a_usable_method_the_student_alone_is_measured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    recipe = small_distillation(write_boxes(tmp_path / "data"), write_teacher(tmp_path / "teacher"))
    tasks: list[object] = []

    def note(task: nn.Module, *_: object) -> Choice:
        tasks.append(task)
        return Choice("float32", 1, "noted")

    monkeypatch.setattr(machine_values, "choose", note)
    methods: dict[str, Terms] = {BASELINE: {}, "pearson": {"pearson": {}}}
    asked = replace(plan(AUTO, recipe), methods=methods)
    assert machines(with_machine_values(asked, tmp_path / "out", setting="a"))[0] == ("float32", 1)
    assert [type(task) for task in tasks] == [Supervised]
