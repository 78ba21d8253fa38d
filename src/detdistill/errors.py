"""The errors that a user can mend: each message names the place, what is wrong there and the way out."""

from __future__ import annotations

from collections.abc import Sequence

from detdistill.annotations import Problem

LISTED_PROBLEMS = 20


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
