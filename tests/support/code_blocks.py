"""The code blocks of the documentation: where they stand, in which language, and whether they are to be run."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCK = re.compile(
    r"(?:^[ ]*<!-- not run: (?P<reason>.+?) -->\n)?"
    r"^(?P<indent>[ ]*)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
ASSIGNMENT = re.compile(r"[A-Z_]+=.*")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        page: from the repository's folder.
        line: of its first line of text, from 1.
        language: as it is written; empty where it is not.
        text: without the indentation of the fence.
        not_run: the reason that the comment above it gives; None for a block that is to be run.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a Markdown page, in their order."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            page.relative_to(ROOT).as_posix(),
            content.count("\n", 0, found.start("text")) + 1,
            found["language"],
            dedent(found["text"]),
            found["reason"],
        )
        for found in BLOCK.finditer(content)
    ]


def commands(text: str) -> list[list[str]]:
    """The commands of a shell block as words, without comments and without variables set for one command."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        while words:
            end = words.index("&&") if "&&" in words else len(words)
            command, words = words[:end], words[end + 1 :]
            while command and ASSIGNMENT.fullmatch(command[0]):
                command = command[1:]
            if command:
                found.append(command)
    return found
