from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detdistill.core.errors import DetdistillError, SettingsError
from detdistill.training.loggers import Loggers
from detdistill.training.recipe import Data, Logging, Recipe
from detdistill.training.recipe_file import recipe_from

MADE: list[Recorder] = []


class Recorder:
    """Keeps what it is told; can fail."""

    def __init__(self, *, fails_at: int = -1) -> None:
        self.fails_at = fails_at
        self.numbers: list[tuple[dict[str, float], int]] = []
        self.hyperparameters: dict[str, Any] = {}
        self.status = ""
        MADE.append(self)

    def log_hyperparams(self, values: dict[str, Any]) -> None:
        self.hyperparameters = values

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if step == self.fails_at:
            raise ConnectionError("no answer")
        self.numbers.append((metrics, step))

    def finalize(self, status: str) -> None:
        self.status = status


READY = Recorder()
HERE = f"{__name__}.Recorder"


def recipe(loggers: Any) -> Recipe:
    return Recipe(data=Data("anywhere"), logging=Logging(loggers=loggers), seed=5)


@pytest.fixture(autouse=True)
def none_made() -> None:
    MADE.clear()


def test_a_class_by_its_import_path_gets_options_recipe_and_numbers(tmp_path: Path) -> None:
    with Loggers(recipe({HERE: {"fails_at": 9}}), tmp_path) as loggers:
        loggers.log({"loss": 2.5, "AP": None, "AP50_per_class": {"a": 1.0}, "step": 3}, 3)
    (made,) = MADE
    assert made.fails_at == 9
    assert made.hyperparameters["seed"] == 5
    assert made.numbers == [({"loss": 2.5, "step": 3.0}, 3)]
    assert made.status == "success"


def test_an_object_that_exists_is_taken_as_it_is(tmp_path: Path) -> None:
    READY.numbers.clear()
    with Loggers(recipe((f"{__name__}.READY",)), tmp_path) as loggers:
        loggers.log({"loss": 1.0}, 1)
    assert READY.numbers == [({"loss": 1.0}, 1)]


def test_one_that_fails_is_told_once_and_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Loggers(recipe({HERE: {"fails_at": 2}, "csv": {}}), tmp_path) as loggers:
        for step in range(1, 5):
            loggers.log({"loss": float(step)}, step)
    assert [step for _, step in MADE[0].numbers] == [1]
    assert capsys.readouterr().err.count("no answer") == 1
    assert (tmp_path / "csv" / "metrics.csv").read_text().splitlines()[-1] == "4.0,4"


def test_the_loggers_hear_of_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="a bug"), Loggers(recipe((HERE,)), tmp_path):
        raise RuntimeError("a bug")
    assert MADE[0].status == "failed"


@pytest.mark.parametrize(
    "name", ["tensorbord", "no.such.module.Logger", f"{__name__}.NoSuchClass", "pathlib.Path", ".", "", "a..b"]
)
def test_what_is_no_logger_is_named_before_training(name: str, tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"logging.loggers") as caught:
        Loggers(recipe((name,)), tmp_path)
    assert name in str(caught.value)


def test_wrong_options_are_told(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"logging.loggers: .*Recorder cannot be used .*projekt"):
        Loggers(recipe({HERE: {"projekt": "boxes"}}), tmp_path)
    with pytest.raises(SettingsError):
        recipe_from("anywhere", {"logging": {"loggers": 3}})
