"""Every code block of the documentation runs, in a folder of its own, at a tiny size.

Python blocks run as they stand, those of a page in one namespace. Of shell blocks every command runs, at the sizes of
`SMALLER`. YAML blocks are read as recipes or plans, and written where their first line is `# NAME.yaml`. Everything
else must have a comment `<!-- not run: why -->` directly above it. What a page finds beside it is in
`tests/support/page_files.py`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from detdistill.cli import build_app, main
from detdistill.cli.parser import parse
from detdistill.cli.recipe_options import RecipeOptions
from detdistill.compare.plan import read_plan
from detdistill.training.recipe_file import merged, read_recipe, recipe_of
from support.code_blocks import PAGES, ROOT, Block, blocks, commands
from support.page_files import FILES, WRITERS, prepare, tiny

SMALLER: dict[tuple[str, ...], str] = {
    ("data", "scenes"): "--train 12 --val 6 --test 6",
    ("compare",): "--seeds 1",
    ("export",): "--verify-images 2",
    ("benchmark",): "--rounds 1 --batch-size 2",
}
"""Options added to commands, which count more than those before them."""
STANDS_FOR = {"/path/to/coco": "coco", "/path/to/your/data": "DATA", ".venv/bin/detdistill": "detdistill"}
OPTIONS_OF = ["detdistill", "check", "recipes/distill_small.yaml", "--data", "DATA", "--teacher", "runs/teacher"]
"""Lines that are options alone are options of this command, which has those of `distill`."""
LONG_VERBS = {"train", "distill", "compare", "benchmark", "export"}
LONG_CALLS = re.compile(r"\b(train|distill|compare)\(")
LANGUAGES = {"python", "bash", "yaml", "text"}


def names(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def words_of(block: Block) -> list[list[str]]:
    """The commands of a shell block at the sizes of `SMALLER`, `detdistill` by its plain name."""
    found = []
    for words in commands(block.text):
        words = [STANDS_FOR.get(word, word) for word in words]
        if words[0].startswith("--"):
            words = [*OPTIONS_OF, *words]
        if words[0] == "detdistill":
            for verb, options in SMALLER.items():
                if tuple(words[1 : 1 + len(verb)]) == verb:
                    words += options.split()
        found.append(words)
    return found


def is_long(page: Path) -> bool:
    shown = [block for block in blocks(page) if block.not_run is None]
    asked = [words for block in shown if block.language == "bash" for words in words_of(block)]
    return any(words[1] in LONG_VERBS and "--list" not in words for words in asked if words[1:]) or any(
        LONG_CALLS.search(block.text) for block in shown if block.language == "python"
    )


def run_python(block: Block, names: dict[str, Any]) -> None:
    # Empty lines before it, so that a traceback names the page's own line.
    exec(compile("\n" * (block.line - 1) + block.text, block.page, "exec"), names)


def run_bash(block: Block) -> None:
    for words in words_of(block):
        program, *arguments = words
        assert program in PROGRAMS, f"{block}: no test knows how to run {' '.join(words)}; say why it is not run"
        problem = PROGRAMS[program](arguments)
        assert not problem, f"{block}: {' '.join(words)}: {problem}"


def _detdistill(arguments: list[str]) -> str:
    status = main(arguments)
    return f"exit status {status}" if status else ""


def _make(arguments: list[str]) -> str:
    """The targets exist; what they do is tested elsewhere."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    return ", ".join(f"there is no target {name}" for name in arguments if name not in targets)


def _pip(arguments: list[str]) -> str:
    """The extras exist; nothing is installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = re.findall(r"(?:detdistill|\.)\[([\w,]+)\]", " ".join(arguments))
    asked = {extra for group in own for extra in group.split(",")}
    return ", ".join(f"there is no extra {name}" for name in sorted(asked - set(project["optional-dependencies"])))


def _python(arguments: list[str]) -> str:
    finished = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    return finished.stderr if finished.returncode else ""


def _nothing(_: list[str]) -> str:
    return ""


PROGRAMS: dict[str, Callable[[list[str]], str]] = {
    "detdistill": _detdistill,
    "make": _make,
    "pip": _pip,
    "python": _python,
    "git": _nothing,  # `git clone` and `cd` lead to where the tests stand
    "cd": _nothing,
}


def run_yaml(block: Block) -> None:
    """Reads a recipe, a part of one, or a plan."""
    values = yaml.safe_load(block.text)
    title = re.match(r"# (\S+\.yaml)\n", block.text)
    file = Path(title[1] if title else "block.yaml")
    if set(values) & {"recipe", "settings", "methods"}:
        file.write_text(block.text, encoding="utf-8")
        read_plan(file)
    elif title:
        file.write_text(block.text, encoding="utf-8")
        read_recipe(file)
        file.write_text(yaml.safe_dump(tiny(values)), encoding="utf-8")
    else:
        distill = {"distill": {"teacher": "runs/teacher"}} if "distill" in values else {}
        recipe_of(merged({"data": {"path": "DATA"}, **distill}, values), str(block))


RUNNERS: dict[str, Callable[[Block], None]] = {"bash": run_bash, "yaml": run_yaml}


def test_the_files_of_pages_are_those_that_are_read() -> None:
    assert set(FILES) <= {names(page) for page in PAGES}
    assert {name for own in FILES.values() for name in own} <= set(WRITERS)


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_block_is_run_or_says_why_not(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The languages are known, programs too, and command lines are right: at once, without running anything."""
    prepare("", tmp_path)
    monkeypatch.chdir(tmp_path)
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block}: ```{block.language} is none of {', '.join(sorted(LANGUAGES))}"
        if block.not_run is None and block.language == "yaml":
            run_yaml(block)
        for words in words_of(block) if block.not_run is None and block.language == "bash" else ():
            assert words[0] in PROGRAMS, f"{block}: {' '.join(words)}: put <!-- not run: why --> above it"
            if words[0] == "detdistill":
                verb = parse(build_app(), words[1:])
                if isinstance(verb, RecipeOptions) and (verb.recipe is None or verb.recipe.exists()):
                    verb.read()
    comments = re.findall(r"^ *<!-- not run:", page.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(comments) == sum(block.not_run is not None for block in blocks(page)), (
        f"{names(page)}: a comment that says why not stands directly above its block"
    )


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if is_long(page) else ()) for page in PAGES if blocks(page)],
    ids=names,
)
@pytest.mark.timeout(1200)
def test_every_block_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(names(page), tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    found: dict[str, Any] = {"__name__": "page"}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for block in blocks(page):
            if block.not_run is None and block.language == "python":
                run_python(block, found)
            elif block.not_run is None and block.language in RUNNERS:
                RUNNERS[block.language](block)
    if check := AFTERWARDS.get(names(page)):
        check(found)


def _own_loop(found: dict[str, Any]) -> None:
    assert all(parameter.grad is None for parameter in found["teacher"].parameters())
    student = torch.load("student.pt", weights_only=True)
    assert set(student) == set(found["student"].state_dict())


AFTERWARDS: dict[str, Callable[[dict[str, Any]], None]] = {"docs/own_loop.md": _own_loop}
"""What must be true after a page, beyond that it ran."""
