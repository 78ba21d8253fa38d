"""Tables for people: drawn on a terminal, bare columns elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from detdistill.core.texts import name_of

UNBROKEN = 1000  # characters: a file or a pipe has no edge at which to wrap


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, last_apart: bool = False) -> None:
    """Prints to standard output.

    Args:
        columns: the headings; the first column is aligned to the left, the others to the right.
        rows: one text per column.
        last_apart: the last row sums up those before.
    """
    # A class may be called "[b]" or ":cat:": names are printed as they are.
    console = Console(
        width=None if sys.stdout.isatty() else UNBROKEN, markup=False, emoji=False, highlight=False, soft_wrap=False
    )
    table = Table(box=SIMPLE_HEAD if console.is_terminal else None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(name_of(column), justify="right" if number else "left")
    for row in rows:
        table.add_row(*map(name_of, row))
    if last_apart and console.is_terminal and len(table.rows) > 1:
        table.rows[-2].end_section = True
    console.print(table)
