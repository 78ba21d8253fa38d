from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

import detdistill.cli
from detdistill.cli.parser import Argument, Group
from detdistill.core.errors import DetdistillError

SHOW_HELP = """
import sys
from detdistill.cli import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert stop.code == 0
print("imported", *sorted({"torch", "numpy", "PIL", "rich", "faster_coco_eval"} & set(sys.modules)))
"""

WITHOUT_EXTRAS = """
import sys
for extra in "pytorch_lightning", "tensorboard", "onnx", "onnxruntime", "onnxscript", "sklearn":
    sys.modules[extra] = None
"""
NEED_NO_EXTRA = """
import detdistill.analysis.page, detdistill.data.inspection, detdistill.deploy.publish, detdistill.distill.distiller
import detdistill.detectors.importing.checkpoint_opening, detdistill.evaluation.predict, detdistill.evaluation.score
"""
CHECK = """
from detdistill.cli import main
sys.exit(main(["check", sys.argv[1], "--data", "DATA", "--teacher", "TEACHER"]))
"""

TALK = """
import dataclasses, sys
from detdistill import cli
from detdistill.cli.parser import Group

@dataclasses.dataclass
class Talk:
    "Say something."
    def run(self):
        print("something")

cli.COMMANDS = Group("Talks.", {"talk": Talk})
sys.exit(cli.main(["talk"]))
"""


def verbs(group: Group, *words: str) -> Iterator[tuple[str, ...]]:
    yield words
    for name, verb in group.verbs.items():
        if isinstance(verb, Group):
            yield from verbs(verb, *words, name)
        else:
            yield (*words, name)


@pytest.mark.parametrize("words", [*verbs(detdistill.cli.COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW_HELP, *words, "--help"], capture_output=True, text=True)
    assert shown.stderr == ""
    assert shown.stdout.startswith(" ".join(("usage: detdistill", *words)))
    assert shown.stdout.splitlines()[-1].strip() == "imported"


def test_data_scores_prediction_analysis_and_losses_need_no_extra() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS + NEED_NO_EXTRA], check=True)


def test_what_needs_an_extra_names_it() -> None:
    command = [sys.executable, "-c", WITHOUT_EXTRAS + CHECK, "recipes/distill_small.yaml"]
    said = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr == "error: training needs pytorch-lightning: pip install 'detdistill[train]'\n"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        detdistill.cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("detdistill 0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "one of {data,"),
        (["evalute"], "did you mean evaluate?"),
        (["evaluate", "--detection", "a.json"], "did you mean --detections?"),
        (["evaluate", "--detections", "a"], "required: evaluate.data"),
        (
            ["evaluate", "--detections", "a", "--data", "b", "--protocol", "voc7"],
            "protocol: expected one of coco, voc07, voc10, not voc7",
        ),
    ],
)
def test_mistakes_in_usage_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        detdistill.cli.main(words)
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


@dataclass(frozen=True)
class Fail:
    """Fail in the way that is asked for."""

    how: Annotated[str, Argument("the way")]

    def run(self) -> None:
        raise {"mendable": DetdistillError("no such folder"), "stopped": KeyboardInterrupt(), "bug": ValueError("x")}[
            self.how
        ]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detdistill.cli, "COMMANDS", Group("Fails.", {"fail": Fail}))


@pytest.mark.usefixtures("failing")
def test_a_mendable_error_is_one_message_and_exits_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert detdistill.cli.main(["fail", "mendable"]) == 1
    assert capsys.readouterr().err == "error: no such folder\n"


@pytest.mark.usefixtures("failing")
def test_ctrl_c_exits_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert detdistill.cli.main(["fail", "stopped"]) == 130
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("failing")
def test_our_own_bugs_keep_their_traceback() -> None:
    with pytest.raises(ValueError, match="x"):
        detdistill.cli.main(["fail", "bug"])


def test_a_reader_that_went_away_is_no_error() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as closed_pipe:
        done = subprocess.run([sys.executable, "-c", TALK], stdout=closed_pipe, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 141
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"\xff\x93", "is no recipe: it is not a text file"),
        (b"", "is empty: leave it out, and every key has its default"),
        (b"3", "is no recipe: it holds no `key: value` lines"),
        (b"data:\n\tpath: x", "cannot start any token"),
        (b"seed: 1\nseed: 2", "the key 'seed' of line 1 stands again in line 2"),
        (b"data: {path: x}\nlogging:", "logging is empty: give it a value, or remove it"),
        (b"data: {path: x}\nsede: 1", "did you mean --seed?"),
    ],
)
def test_a_recipe_that_cannot_be_read(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    if content is not None:
        file.write_bytes(content)
    with contextlib.suppress(SystemExit):
        assert detdistill.cli.main(["train", str(file), "--out", str(tmp_path / "run")]) == 1
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
