"""The errors that a user can mend: each message names the place, what is wrong there and the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LISTED_PROBLEMS = 20


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
        lines = [summary, *(f"  {problem}" for problem in self.problems[:LISTED_PROBLEMS])]
        if len(self.problems) > LISTED_PROBLEMS:
            lines.append(f"  … and {len(self.problems) - LISTED_PROBLEMS} more")
        super().__init__("\n".join(lines))
