"""The one place that prints: nothing that comes from a file reaches a terminal or a log as a command to it."""

from __future__ import annotations

import sys
from typing import TextIO

from detdistill.core.texts import message, printable


def print_out(text: object = "", *, end: str = "\n") -> None:
    """Print results to standard output, with everything escaped that a terminal acts on."""
    _write(sys.stdout, f"{printable(str(text))}{end}")


def print_err(text: object) -> None:
    """Print a message of bounded length to standard error, with everything escaped that a terminal acts on.

    All lines but the first are indented, so that a line feed in a name cannot begin a message of its own.
    """
    first, *others = message(str(text)).split("\n")
    lines = [first, *(line if line[:1] in ("", " ") else f"  {line}" for line in others)]
    _write(sys.stderr, "\n".join(lines) + "\n")
    sys.stderr.flush()


def _write(stream: TextIO, text: str) -> None:
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
