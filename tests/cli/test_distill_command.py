from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detdistill.cli import COMMANDS, main
from detdistill.cli.distill_command import Check, Distill
from detdistill.cli.parser import parse
from detdistill.cli.train_command import Train
from detdistill.core.errors import DetdistillError
from detdistill.training.recipe import Data, DistillationRecipe, Recipe
from detdistill.training.recipe_file import read_recipe, write_recipe

DEFAULT: dict[str, dict[str, Any]] = {"rank_mimicking": {}, "prediction_guided": {}}

BOX = DEFAULT | {"hint": {"where": "box", "weight": 2}}


@pytest.fixture
def file(tmp_path: Path) -> str:
    """A recipe."""
    path = tmp_path / "recipe.yaml"
    path.write_text("data: {path: there}\nseed: 3\n")
    return str(path)


def recipe(*words: str) -> Recipe:
    out = () if words[0] == "check" else ("--out", "run")
    verb = parse(COMMANDS, [*words, *out])
    assert isinstance(verb, Train | Distill | Check)
    return verb.recipe


WRITTEN = "{0: apple, no: 1, 1.50: on, 010: 1e3, null: '2', 2017-01-01: 12:30}"
NAMES = {"0": "apple", "no": "1", "1.50": "on", "010": "1e3", "null": "2", "2017-01-01": "12:30"}


def test_class_names_are_taken_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data: {{path: there}}\nteacher: t\nclass_map: {WRITTEN}\n")
    read = recipe("distill", str(path))
    assert isinstance(read, DistillationRecipe)
    assert read.class_map == NAMES
    assert read_recipe(path) == read
    write_recipe(read, tmp_path / "written.yaml")
    assert read_recipe(tmp_path / "written.yaml") == read
    path.write_text("data: {path: there}\nteacher: t\nclass_map:\n  0: apple\n  person: 0\n")
    assert recipe("distill", str(path)).class_map == {"0": "apple", "person": "0"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("option", ["--class_map", "--class-map"])
def test_class_names_of_the_command_line(option: str) -> None:
    words = ("distill", "--data", "d", "--teacher", "t")
    for given in ((option, WRITTEN), (f"{option}={WRITTEN}",)):
        read = recipe(*words, *given)
        assert isinstance(read, DistillationRecipe)
        assert read.class_map == NAMES


def test_class_names_of_python() -> None:
    table: Any = {0: "apple", "person": 0}
    assert DistillationRecipe(Data("d"), teacher="t", terms={"hint": {}}, class_map=table).class_map == {
        "0": "apple",
        "person": "0",
    }


@pytest.mark.parametrize("verb", ["train", "distill", "check"])
def test_a_recipe_by_position_and_data_by_its_name(verb: str, file: str) -> None:
    teacher = () if verb == "train" else ("--teacher", "t")
    for words in ((file,), ("--recipe", file), (f"--recipe={file}",), ("--schedule.epochs", "12", "--recipe", file)):
        read = recipe(verb, *words, *teacher)
        assert (read.data.path, read.seed) == ("there", 3)
    for words in (("--data", "here"), ("--data=here",), ("--data.path", "here")):
        assert recipe(verb, file, *words, *teacher).data.path == "here"
        assert recipe(verb, *words, *teacher).data.path == "here"
        assert recipe(verb, *words, f"--recipe={file}", *teacher).data.path == "here"


@pytest.mark.parametrize(
    ("words", "terms"),
    [
        ((), DEFAULT),
        (("--terms", "hint"), {"hint": {}}),
        (("--terms", "soft_label, hint"), {"soft_label": {}, "hint": {}}),
        (("--terms=rank_mimicking,hint",), {"rank_mimicking": {}, "hint": {}}),
        (("--terms", "{hint: {where: box}}"), {"hint": {"where": "box"}}),
        (("--terms.rank_mimicking.space", "prob"), DEFAULT | {"rank_mimicking": {"space": "prob"}}),
        (("--terms", "hint", "--terms.hint.weight", "0.5"), {"hint": {"weight": 0.5}}),
        (("--terms.hint.weight", "1e-3"), DEFAULT | {"hint": {"weight": 0.001}}),
        (("--terms.hint", "{where: box}", "--terms.hint.weight", "2"), BOX),
        (("--terms.hint.where=box", "--terms.hint.weight=2"), BOX),
    ],
)
@pytest.mark.parametrize("verb", ["distill", "check"])
def test_terms_and_their_options(verb: str, words: tuple[str, ...], terms: dict[str, Any], file: str) -> None:
    read = recipe(verb, file, "--teacher", "t", *words)
    assert isinstance(read, DistillationRecipe)
    assert read.terms == terms


def test_options_change_the_terms_of_a_file(file: str) -> None:
    with Path(file).open("a") as more:
        more.write("teacher: t\nterms: {rank_mimicking: {space: prob, temperature: 2}, hint: {}}\n")
    read = recipe("distill", file, "--terms.rank_mimicking.temperature", "3")
    assert isinstance(read, DistillationRecipe)
    assert read.terms == {"rank_mimicking": {"space": "prob", "temperature": 3}, "hint": {}}
    again = recipe("distill", file, "--terms", "hint", "--teacher", "other")
    assert isinstance(again, DistillationRecipe)
    assert (again.terms, again.teacher) == ({"hint": {}}, "other")


@pytest.mark.parametrize("text", ["trems: {hint: {}}", "trems: {}", "detector: {optoins: {}}"])
def test_a_mistyped_key_that_holds_nothing_is_no_default(
    text: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(file).open("a") as more:
        more.write(f"teacher: t\n{text}\n")
    assert main(["check", file]) == 1
    wanted = "detector.options" if "detector" in text else "terms"
    assert f"did you mean {wanted}?" in capsys.readouterr().err
    with pytest.raises(DetdistillError, match=f"did you mean {wanted}"):
        read_recipe(Path(file))


@pytest.mark.parametrize(("line", "words"), [("teacher: t\n", []), ("", ["--teacher", "t"])])
def test_train_sends_who_names_a_teacher_to_distill(
    line: str, words: list[str], file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(file).open("a") as more:
        more.write(line)
    with pytest.raises(SystemExit) as stop:
        main(["train", file, *words, "--out", "run"])
    assert stop.value.code == 2
    assert "a recipe that names a teacher is for `detdistill distill`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "--teacher", "t", "--terms.hint.weight"), "argument --terms: expected one argument"),
        (("check", "--teacher", "t", "--terms.hint.weight", "{"), "--terms.hint.weight: '{' is not YAML"),
        (("train", "--terms.hint.weight", "2"), "terms.hint.weight"),
    ],
)
def test_options_of_terms_that_cannot_be_read(
    words: tuple[str, ...], said: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main([words[0], "--recipe", file, *words[1:]])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_a_teacher_is_required(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", file])
    assert stop.value.code == 2
    assert "required: check.teacher" in capsys.readouterr().err
