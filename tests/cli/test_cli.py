from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import pytest
from cyclopts import App, Parameter

import detdistill.cli
from detdistill.cli import NESTED, VERBS
from detdistill.core.errors import DetdistillError

SHOW_HELP = """
import sys
from detdistill.cli import main
assert main(sys.argv[1:]) == 0
print("imported", *sorted({"torch", "numpy", "PIL", "pydantic", "faster_coco_eval"} & set(sys.modules)))
"""

WITHOUT_EXTRAS = """
import sys
for extra in "pytorch_lightning", "tensorboard", "onnx", "onnxruntime", "onnxscript", "sklearn":
    sys.modules[extra] = None
"""
NEED_NO_EXTRA = """
import detdistill.analysis.page, detdistill.data.inspection, detdistill.deploy.publish, detdistill.distill.distiller
import detdistill.compare.comparison, detdistill.training.run
import detdistill.detectors.importing.checkpoint_opening, detdistill.evaluation.predict, detdistill.evaluation.score
"""

TALK = """
import dataclasses, sys
import cyclopts
from detdistill import cli

@dataclasses.dataclass
class Talk:
    "Say something."
    def run(self):
        print("something")

app = cyclopts.App(name="detdistill")
app.command(Talk, name="talk")
cli.build_app = lambda: app
sys.exit(cli.main(["talk"]))
"""


ALL = [tuple(name.split()) for verbs in VERBS.values() for name in verbs]


@pytest.mark.parametrize("words", [(), *((word,) for word in NESTED), *ALL], ids=" ".join)
def test_help_imports_nothing_heavy(words: tuple[str, ...]) -> None:
    shown = subprocess.run([sys.executable, "-c", SHOW_HELP, *words, "--help"], capture_output=True, text=True)
    assert shown.stderr == ""
    assert shown.stdout.startswith(" ".join(("Usage: detdistill", *words)))
    assert shown.stdout.splitlines()[-1].strip() == "imported"


def test_only_loggers_scenes_and_export_need_an_extra() -> None:
    subprocess.run([sys.executable, "-c", WITHOUT_EXTRAS + NEED_NO_EXTRA], check=True)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_help_of_a_verb_has_its_docstring_and_options(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert detdistill.cli.main([*words, "--help"]) == 0
    place = next(verbs[" ".join(words)][0] for verbs in VERBS.values() if " ".join(words) in verbs)
    module, _, name = place.partition(":")
    verb = getattr(importlib.import_module(f"detdistill.cli.{module}"), name)
    shown = "".join(character for character in capsys.readouterr().out if character not in "│ \n")
    assert "".join((inspect.getdoc(verb) or "").split()) in shown
    options = [field.name.replace("_", "-") for field in fields(verb) if field.name not in ("overrides", "settings")]
    assert [option for option in options if f"--{option}" not in shown] == []


def test_help_shows_defaults_and_groups(capsys: pytest.CaptureFixture[str]) -> None:
    assert detdistill.cli.main(["evaluate", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "[default: 8]" in shown
    assert "Dataset" in shown
    assert detdistill.cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert [group for group in VERBS if group not in shown] == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_knows_verbs_and_options(shell: Literal["bash", "zsh", "fish"]) -> None:
    script = detdistill.cli.build_app().generate_completion(shell=shell)
    assert [word for word in ("distill", "inspect", "batch-size", "store-thresholds") if word not in script] == []


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert detdistill.cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("0.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "needs a verb: data,"),
        (["data"], "needs a verb: inspect,"),
        (["evalute"], 'Did you mean "evaluate"?'),
        (["evaluate", "--detection", "a.json"], "Did you mean --detections?"),
        (["evaluate", "--detections", "a"], "--data"),
        (["evaluate", "run", "more", "--data", "a"], "unexpected argument more"),
        (
            ["evaluate", "run", "--data", "a", "--batch-size", "many"],
            'Invalid value for --batch-size: unable to convert "many"',
        ),
        (["evaluate", "--detections", "a", "--data", "b", "--protocol", "voc7"], 'Did you mean "voc07"?'),
        (["train", "--out", "run", "--sede", "3"], "did you mean --seed?"),
        (["train", "--out", "run", "--resum"], "did you mean --resume?"),
        (["train", "--out", "run", "--schedule.epochs"], "--schedule.epochs has no value"),
        (["train", "--out", "run", "--data", "a", "--schedule.epoch", "3"], "did you mean schedule.epochs?"),
        (["train", "--out", "run", "--data", "a", "--detector.head", "gfl"], "'detector.head' is now 'detector.kind'"),
        (["train", "--out", "run", "--data", "a", "--teacher-memory", "9"], "'teacher_memory' is now 'distill.memory'"),
        (["train", "--data", "a"], "--out"),
    ],
)
def test_mistakes_in_usage_exit_2(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert detdistill.cli.main(words) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err
    assert shown.out == ""


@dataclass(frozen=True)
class Fail:
    """Fail in the way that is asked for."""

    how: Annotated[str, Parameter(help="The way.")]

    def run(self) -> None:
        raise {"mendable": DetdistillError("no such folder"), "stopped": KeyboardInterrupt(), "bug": ValueError("x")}[
            self.how
        ]


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    app = App(name="detdistill")
    app.command(Fail, name="fail")
    monkeypatch.setattr(detdistill.cli, "build_app", lambda: app)


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
        (b"\xff\x93", "not a text file"),
        (b"", "data is missing"),
        (b"3", "expected `key: value` lines"),
        (b"data:\n\tpath: x", "cannot start any token"),
        (b"seed: 1\nseed: 2", "duplicate key 'seed' (lines 1 and 2)"),
        (b"data: {path: x}\nlogging:", "logging must be a group of keys (every, save_every, loggers, page), not null"),
        (b"data: {path: x}\nsede: 1", "did you mean seed?"),
    ],
)
def test_a_recipe_that_cannot_be_read(
    content: bytes | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "recipe.yaml"
    if content is not None:
        file.write_bytes(content)
    assert detdistill.cli.main(["train", str(file), "--out", str(tmp_path / "run")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
