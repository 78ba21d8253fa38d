"""The options that say where the files of a dataset are, the same in every verb."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from detdistill.cli import build_app, main
from detdistill.cli.parser import parse
from detdistill.cli.recipe_options import RecipeOptions
from detdistill.cli.source import Source
from detdistill.compare.plan import read_plan
from detdistill.core.errors import DetdistillError
from detdistill.training.recipe import Data
from support.small_datasets import OBJECTS, SIZES, coco_content, write_coco, write_images

PLACES = ["--annotations", "a.json", "--images", "i", "--split", "test", "--follow-links"]


@pytest.mark.parametrize(
    "words",
    [
        ["evaluate", "run", "--data", "d"],
        ["analyze", "--teacher", "t", "--student", "s", "--data", "d", "--out", "o"],
        ["export", "run", "--out", "m.onnx", "--data", "d"],
        ["benchmark", "run", "--data", "d"],
        ["publish", "run", "--out", "o", "--data", "d"],
        ["data", "inspect", "d"],
        ["data", "split", "d"],
    ],
    ids=" ".join,
)
def test_verbs_that_read_one_part_take_the_same_options(words: list[str]) -> None:
    verb = parse(build_app(), [*words, *PLACES])
    assert isinstance(verb, Source)
    assert (verb.annotations, verb.images, verb.split, verb.follow_links) == (Path("a.json"), Path("i"), "test", True)


@pytest.mark.parametrize("images", [["--images", "i"], ["--images=i"]])
@pytest.mark.parametrize("verb", ["train", "distill", "check"])
def test_verbs_that_train_take_them_for_both_parts(verb: str, images: list[str]) -> None:
    teacher = [] if verb == "train" else ["--teacher", "t"]
    out = [] if verb == "check" else ["--out", "o"]
    parsed = parse(build_app(), [verb, "--data", "d", *images, "--follow-links", *teacher, *out])
    assert isinstance(parsed, RecipeOptions)
    assert parsed.read().data == Data("d", train_images="i", val_images="i", follow_links=True)


@pytest.mark.parametrize("words", [["train", "--images"], ["train", "--annotations", "a.json"]])
def test_what_training_cannot_use_is_a_mistake_in_usage(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--data", "d", "--out", "o"] if words[-1] != "--images" else words) == 2
    if "--annotations" in words:
        assert "--data.train FILE and --data.val FILE" in capsys.readouterr().err


def test_compare_takes_them_for_all_parts_and_settings(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("data: {path: d, train: a.json}\ndistill: {teacher: t}\n")
    plan = read_plan(file, images="i", follow_links=True, report_on="b.json")
    (recipe,) = plan.settings.values()
    assert recipe.data == Data("d", train="a.json", train_images="i", val_images="i", follow_links=True)
    assert (plan.report_on, plan.report_images, plan.select_images) == ("b.json", "i", "i")
    assert read_plan(file).report_images is None


@pytest.mark.parametrize("words", [["export", "run", "--out", "m.onnx"], ["benchmark", "run"]])
@pytest.mark.parametrize("option", [["--images", "i"], ["--follow-links"]])
def test_a_place_without_a_dataset_is_an_error(words: list[str], option: list[str]) -> None:
    verb = parse(build_app(), [*words, *option])
    assert isinstance(verb, Source)
    with pytest.raises(DetdistillError, match=f"{option[0]} was given without a dataset"):
        verb.source_if_given(None)
    plain = parse(build_app(), words)
    assert isinstance(plain, Source)
    assert plain.source_if_given(None) is None


def test_a_dataset_whose_parts_are_anywhere_can_be_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "elsewhere").mkdir()
    write_images(tmp_path / "elsewhere" / "photos")
    (tmp_path / "elsewhere" / "boxes.json").write_text(json.dumps(coco_content()))
    ids = {stem: 7 * number for number, stem in enumerate(SIZES)}
    found = [
        {
            "image_id": ids[stem],
            "category_id": {"cat": 3, "dog": 17}[name],
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": 0.9,
        }
        for stem, name, (x1, y1, x2, y2) in OBJECTS
    ]
    (tmp_path / "results.json").write_text(json.dumps(found))
    words = ["evaluate", "--data", str(tmp_path / "set"), "--detections", str(tmp_path / "results.json")]
    assert main(words) == 1
    message = capsys.readouterr().err
    assert "--annotations" in message
    assert "--images" in message
    places = ["--annotations", f"{tmp_path}/elsewhere/boxes.json", "--images", f"{tmp_path}/elsewhere/photos"]
    assert main([*words, *places, "--json", str(tmp_path / "scores.json")]) == 0
    assert json.loads((tmp_path / "scores.json").read_text())["AP"] == pytest.approx(1)


def test_inspect_opens_all_parts_of_a_named_data_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_coco(tmp_path)
    (tmp_path / "images" / "one.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / "pets.yaml").write_text("train: images\nval: images\nnames: [cat]\n")
    words = ["data", "inspect", str(tmp_path), "--annotations", "pets.yaml", "--sheet", str(tmp_path / "sheet.png")]
    assert main(words) == 0
    assert capsys.readouterr().out.count("1 object of 1 class") == 2
