"""Files of strangers on the command line: no traceback, no control character, no endless output."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detdistill.cli import main
from support.small_datasets import coco_content, write_coco, write_voc

NAMES = [
    "\x1b[31mred",
    "\x9b2J",
    "null\0",
    "\u202eesrever",
    "line\nerror: forged",
    "\r\r",
    "half \ud800",
    "<script>|[b]:cat:{{x}}",
    300_000 * "x",
    "кошка 猫 قطة",
]


def is_harmless(text: str) -> bool:
    lines = text.splitlines()
    return (
        not set(text) & {*map(chr, (*range(9), *range(11, 32), *range(127, 160), 0x202E)), "\u2028"}
        and not any(line.startswith("error: forged") for line in lines)
        and len(text) < 100_000
        and "Traceback" not in text
    )


def write_named(root: Path, name: str, content: dict[str, Any] | None = None) -> Path:
    write_coco(root)
    content = coco_content() if content is None else content
    content["categories"][0]["name"] = name
    (root / "train.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("name", NAMES)
def test_class_names_reach_the_terminal_as_texts(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_named(tmp_path / "data", name)
    sheet = tmp_path / "sheet.png"
    status = main(["data", "inspect", str(root), "--sheet", str(sheet)])
    said = capsys.readouterr()
    assert is_harmless(said.out + said.err)
    assert status == ("\ud800" in name)
    if status == 0:
        with Image.open(sheet) as image:
            assert image.width < 10_000


@pytest.mark.parametrize("name", [name for name in NAMES if "\0" not in name and "\ud800" not in name])
def test_many_faulty_entries_make_no_long_list(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = coco_content()
    content["images"] += [{"id": name + str(number), "file_name": f"{number}{name}"} for number in range(25)]
    content["annotations"] += [{"id": f"{name}{number}", "image_id": name * 2} for number in range(25)]
    root = write_named(tmp_path / "data", name, content)
    assert main(["data", "inspect", str(root), "--sheet", str(tmp_path / "sheet.png")]) == 1
    said = capsys.readouterr()
    assert is_harmless(said.out + said.err)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("{{x}}", "line 1"),
        ("data: {{ path }}", "line 1"),
        ("a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12)), "line"),
        ("seed: " + "9" * 5_000, "line 1"),
        ("seed: 9999999999999999999999999999", "seed"),
        ("images: {short_side: 1000000000}", "images.short_side"),
        ("data: {path: !!binary aGk=}", "line 1"),
        ('data: {path: "\\ud800"}', "line 1"),
        ('"\\e[31m": 1', "\\x1b"),
        ("[" * 5_000, "levels"),
        ("x" * 2_000_000, "bytes"),
    ],
)
def test_recipes_of_strangers(text: str, key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    assert main(["recipe", "show", str(recipe)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ")
    assert key in said
    assert is_harmless(said)


@pytest.mark.timeout(120)  # opened as usual, a pipe blocks for ever
@pytest.mark.parametrize(
    "command",
    [
        ["recipe", "show", "pipe.yaml"],
        ["data", "inspect", "pipe.json"],
        ["data", "inspect", "pipe.csv"],
        ["data", "inspect", "pipe.txt"],
        ["data", "inspect", "pipe.yaml"],
        ["data", "inspect", ".", "--annotations", "pipe.json"],
        ["data", "inspect", "data", "--recipe", "pipe.yaml"],
        ["import", "pipe.pth", "--out", "out"],
        ["evaluate", "--detections", "pipe.json", "--data", "data"],
    ],
)
def test_a_pipe_is_an_error(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_coco(tmp_path / "data")
    for ending in ("yaml", "json", "csv", "txt", "pth"):
        os.mkfifo(f"pipe.{ending}")
    assert main(command) in (1, 2)
    assert "error: " in capsys.readouterr().err


@pytest.mark.parametrize("entry", ["nine", "nine.jpg", "../nine", "sub/nine", "nine\x1b"])
def test_inspect_refuses_a_listed_image_that_training_refuses(
    entry: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "voc"
    write_voc(root)
    listing = root / "ImageSets" / "Main" / "train.txt"
    listing.write_text(f"{listing.read_text()}{entry}\n")
    assert main(["data", "inspect", str(root), "--sheet", str(tmp_path / "sheet.png")]) == 1
    said = capsys.readouterr()
    assert "must be fixed" in said.out
    assert is_harmless(said.out + said.err)


@pytest.mark.parametrize("options", [[], ["default"]])
def test_library_warnings_reach_only_who_asks_for_them(options: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "warnoptions", options)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        assert main(["methods"]) == 0
        warnings.warn("Pillow says", stacklevel=1)
    assert [str(each.message) for each in caught] == ["Pillow says"] * len(options)
