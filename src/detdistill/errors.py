"""The errors that a user can mend: each message names the place, what is wrong there and the way out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import islice

LISTED = 20
"""So many entries of a list are told; whoever has more to mend needs to know only how many."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a data set.

    Attributes:
        where: the file and the entry in it, for example `train.json: annotation 17` or `labels/a.txt:3`.
        what: what is wrong there, and what was done about it or what to do.
        fatal: the data set cannot be used until this is mended; otherwise the entry was repaired or left out.
    """

    where: str
    what: str
    fatal: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


class DetdistillError(Exception):
    """Something that the user can mend; the command line prints it without a traceback."""


class DataError(DetdistillError):
    """Data that cannot be used as it is.

    Attributes:
        problems: everything that was found, not only the first.
    """

    def __init__(self, summary: str, problems: Sequence[Problem] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__(summary + listed(self.problems))


def listed(entries: Collection[object], *, indent: int = 2) -> str:
    """What stands below the line that announces a list.

    Args:
        entries: each is told on a line of its own; of more than 20 the first 20, and how many more there are.
        indent: spaces before each.

    Returns:
        The lines, each behind a line break; nothing for no entries.
    """
    more = [f"… and {len(entries) - LISTED} more"] if len(entries) > LISTED else []
    return "".join(f"\n{' ' * indent}{line}" for line in [*islice(entries, LISTED), *more])
