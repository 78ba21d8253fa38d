from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from detdistill.cli import build_app, main
from detdistill.cli.parser import parse
from detdistill.cli.recipe_options import RecipeOptions
from detdistill.core.errors import SettingsError
from detdistill.training.distillation_settings import Unlabelled
from detdistill.training.recipe import Recipe
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
    verb = parse(build_app(), [*words, *out])
    assert isinstance(verb, RecipeOptions)
    return verb.read()


WRITTEN = "{0: apple, no: 1, 1.50: on, 010: 1e3, null: '2', 2017-01-01: 12:30}"
NAMES = {"0": "apple", "no": "1", "1.50": "on", "010": "1e3", "null": "2", "2017-01-01": "12:30"}


def test_class_names_are_read_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(f"data: {{path: there}}\ndistill: {{teacher: t, class_map: {WRITTEN}}}\n")
    read = recipe("distill", str(path))
    assert read.distillation.class_map == NAMES
    assert read_recipe(path) == read
    write_recipe(read, tmp_path / "written.yaml")
    assert read_recipe(tmp_path / "written.yaml") == read
    path.write_text("data: {path: there}\ndistill:\n  teacher: t\n  class_map:\n    0: apple\n    person: 0\n")
    assert recipe("distill", str(path)).distillation.class_map == {"0": "apple", "person": "0"}


@pytest.mark.parametrize("option", ["--distill.class_map", "--distill.class-map"])
def test_class_names_of_the_command_line(option: str) -> None:
    words = ("distill", "--data", "d", "--teacher", "t")
    for given in ((option, WRITTEN), (f"{option}={WRITTEN}",)):
        assert recipe(*words, *given).distillation.class_map == NAMES
    assert recipe(*words, f"{option}.two-wheeler", "0").distillation.class_map == {"two-wheeler": "0"}


@pytest.mark.parametrize("verb", ["train", "distill", "check"])
def test_a_recipe_by_position_and_data_by_its_name(verb: str, file: str) -> None:
    teacher = () if verb == "train" else ("--teacher", "t")
    for words in (
        (file,),
        ("--recipe", file),
        (f"--recipe={file}",),
        ("--schedule.epochs", "12", "--recipe", file),
        ("--schedule.epochs", "12", file),
    ):
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
        (("--distill.terms=rank_mimicking,hint",), {"rank_mimicking": {}, "hint": {}}),
        (("--distill.terms", "[rank_mimicking, hint]"), {"rank_mimicking": {}, "hint": {}}),
        (("--distill.terms", "{hint: {where: box}}"), {"hint": {"where": "box"}}),
        (("--distill.terms.rank_mimicking.space", "prob"), DEFAULT | {"rank_mimicking": {"space": "prob"}}),
        (("--terms", "hint", "--distill.terms.hint.weight", "0.5"), {"hint": {"weight": 0.5}}),
        (("--distill.terms.hint.weight", "1e-3"), DEFAULT | {"hint": {"weight": 0.001}}),
        (("--distill.terms.hint", "{where: box}", "--distill.terms.hint.weight", "2"), BOX),
        (("--distill.terms.hint.where=box", "--distill.terms.hint.weight=2"), BOX),
    ],
)
@pytest.mark.parametrize("verb", ["distill", "check"])
def test_terms_and_their_options(verb: str, words: tuple[str, ...], terms: dict[str, Any], file: str) -> None:
    assert recipe(verb, file, "--teacher", "t", *words).distillation.terms == terms


def test_options_change_the_terms_of_a_file(file: str) -> None:
    with Path(file).open("a") as more:
        more.write("distill: {teacher: t, terms: {rank_mimicking: {space: prob, temperature: 2}, hint: {}}}\n")
    read = recipe("distill", file, "--distill.terms.rank_mimicking.temperature", "3").distillation
    assert read.terms == {"rank_mimicking": {"space": "prob", "temperature": 3}, "hint": {}}
    again = recipe("distill", file, "--terms", "hint", "--teacher", "other").distillation
    assert (again.terms, again.teacher) == ({"hint": {}}, "other")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("distill: {teacher: t, trems: {hint: {}}}", "distill.terms"),
        ("distill: {teacher: t, trems: {}}", "distill.terms"),
        ("detector: {optoins: {}}", "detector.options"),
    ],
)
def test_a_mistyped_key_that_holds_nothing_is_no_default(
    text: str, wanted: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(file).open("a") as more:
        more.write(f"{text}\n")
    assert main(["check", file]) == 2
    assert f"did you mean {wanted}?" in capsys.readouterr().err
    with pytest.raises(SettingsError, match=f"did you mean {wanted}"):
        read_recipe(Path(file))


@pytest.mark.parametrize(
    ("line", "words"), [("distill: {teacher: t}\n", []), ("", ["--distill.teacher", "t"])], ids=["file", "option"]
)
def test_train_refuses_a_recipe_with_a_teacher(
    line: str, words: list[str], file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Path(file).open("a") as more:
        more.write(line)
    assert main(["train", file, *words, "--out", str(tmp_path / "run")]) == 2
    assert "use `detdistill distill`" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("verb", ["distill", "check"])
def test_a_distillation_needs_a_teacher(
    verb: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = [] if verb == "check" else ["--out", str(tmp_path / "run")]
    assert main([verb, file, *out]) == 2
    said = capsys.readouterr().err
    assert "--distill.teacher" in said
    assert "detdistill train" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("check", "--teacher", "t", "--distill.terms.hint.weight"), "--distill.terms.hint.weight has no value"),
        (
            ("check", "--teacher", "t", "--distill.terms.hint.weight", "{"),
            "--distill.terms.hint.weight: '{' is not YAML",
        ),
        (("check", "--teacher", "t", "--terms.hint.weight", "2"), "'terms' is now 'distill.terms'"),
        (("train", "--out", "run", "--teacher", "t"), "'teacher' is now 'distill.teacher'"),
    ],
)
def test_keys_that_cannot_be_read(
    words: tuple[str, ...], said: str, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([words[0], "--recipe", file, *words[1:]]) == 2
    assert said in capsys.readouterr().err


def test_unlabelled_images_and_their_thresholds(tmp_path: Path) -> None:
    words = ("distill", "--data", "d", "--teacher", "t", "--unlabelled", "more")
    assert recipe(*words).distillation.unlabelled == Unlabelled("more")
    assert recipe(*words, "--unlabelled", "b/*.jpg").distillation.unlabelled == Unlabelled(("more", "b/*.jpg"))
    option = "--distill.unlabelled.threshold"
    for given in ((option, "{two-wheeler: .5, 1.50: 1}"), (f"{option}.two-wheeler", ".5", f"{option}.no", "1")):
        read = recipe(*words, *given, "--distill.unlabelled.share", "0.25").distillation.unlabelled
        assert read is not None
        assert isinstance(read.threshold, dict)
        assert set(read.threshold) in ({"two-wheeler", "1.50"}, {"two-wheeler", "no"})
        assert read.share == 0.25
    path = tmp_path / "recipe.yaml"
    unlabelled = "{images: more, threshold: {0: 0.5, 1.50: 1}}"
    path.write_text(f"data: {{path: d}}\ndistill: {{teacher: t, unlabelled: {unlabelled}}}\n")
    written = read_recipe(path).distillation.unlabelled
    assert written is not None
    assert written.threshold == {"0": 0.5, "1.50": 1}


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("--data.val", "null"), "distill.unlabelled.threshold"),
        (("--distill.unlabelled.share", "1"), "distill.unlabelled.share"),
        (("--distill.unlabelled.share", "0"), "distill.unlabelled.share"),
        (("--distill.unlabelled.threshold", "1.5"), "distill.unlabelled.threshold"),
        (("--distill.terms", "{}", "--distill.unlabelled.pseudo_labels", "false"), "terms"),
    ],
)
def test_what_unlabelled_images_cannot_be_used_with(words: tuple[str, ...], field: str) -> None:
    with pytest.raises(SettingsError, match=field):
        recipe("distill", "--data", "d", "--teacher", "t", "--unlabelled", "more", *words)


def test_terms_may_be_missing_only_where_pseudo_labels_teach() -> None:
    words = ("distill", "--data", "d", "--teacher", "t", "--distill.terms", "{}")
    assert recipe(*words, "--unlabelled", "more").distillation.terms == {}
    with pytest.raises(SettingsError, match="terms is empty"):
        recipe(*words)
