"""Errors that the user can fix: each message names the place, what is wrong there and how to fix it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Literal

from detdistill.core.texts import LONGEST_LINE, one_line

LISTED = 20
"""Largest number of entries of a list that a message shows."""

_EXAMPLES = 3  # places that the line of a group names

Outcome = Literal["left out", "changed", "noted"]
"""What happened to the entry of a problem that is not fatal."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a dataset.

    Attributes:
        where: File and entry, for example `train.json: annotation 17` or `labels/a.txt:3`.
        what: What is wrong there, and what was done about it or how to fix it.
        fatal: The dataset cannot be used until this is fixed.
        outcome: What happened to the entry, if the problem is not fatal: it was left out, read with a changed value,
            or kept as it is and only noted.
        unit: Noun for what is affected: `annotation`, `image`, `file` …
        count: Number of units affected.
        group: Description without the entry's own values, shared by all problems of the same kind. None: `what`.
    """

    where: str
    what: str
    fatal: bool = False
    outcome: Outcome = "noted"
    unit: str = "entry"
    count: int = 1
    group: str | None = None

    def __str__(self) -> str:
        return f"{one_line(self.where)}: {one_line(self.what)}"


class DetdistillError(Exception):
    """Something that the user can fix; the command line prints it without a traceback."""


class SettingsError(DetdistillError):
    """A recipe, an option or another setting with an unknown key, or with a value that it cannot have.

    Attributes:
        place: What the settings are, for example a file; may be empty.
        problems: What is wrong, with keys, values and what was expected.
    """

    def __init__(self, problems: str, place: str = "") -> None:
        self.place = place
        self.problems = problems
        super().__init__(f"{place}: {problems}" if place else problems)


class DataError(DetdistillError):
    """Data that cannot be used as it is.

    Attributes:
        summary: The message without the list of problems.
        problems: Everything that was found, one entry per place. The message groups equal problems.
    """

    def __init__(self, summary: str, problems: Sequence[Problem] = ()) -> None:
        self.summary = summary
        self.problems = tuple(problems)
        super().__init__(summary + listed(grouped(self.problems)))


class LeftOutError(DataError):
    """More than a tenth of a split's annotations could not be used.

    Attributes:
        left_out: Number of annotations left out.
        annotated: Number of annotations in the files, those left out included.
        problems: The annotations left out, one problem each.
    """

    def __init__(self, source: str, left_out: int, annotated: int, problems: Sequence[Problem]) -> None:
        self.left_out = left_out
        self.annotated = annotated
        share = f"{left_out:,} of {counted(annotated, 'annotation')} ({round(100 * left_out / annotated)} %)"
        remedy = "Correct the annotations, or accept the loss with --accept-left-out (in a recipe: "
        super().__init__(
            f"{source}: {share} cannot be used; at most a tenth may be left out. {remedy}data.accept_left_out: true)",
            problems,
        )


def grouped(problems: Iterable[Problem]) -> list[str]:
    """Describe problems, one line per kind.

    A kind with several entries is one line with their number and a few places, for example
    `1,800 images: size in the XML is 200x200, in the file 416x416 (a.xml, b.xml, c.xml, …)`.

    Returns:
        The lines, in order of each kind's first problem.
    """
    groups: dict[tuple[object, ...], list[Problem]] = {}
    for problem in problems:
        key = (problem.fatal, problem.outcome, problem.unit, problem.group or problem.what)
        groups.setdefault(key, []).append(problem)
    return [_line(group) for group in groups.values()]


def _line(group: Sequence[Problem]) -> str:
    first = group[0]
    if len(group) == 1:
        return str(first)
    number = counted(sum(problem.count for problem in group), first.unit)
    if any(problem.what != first.what for problem in group):
        # What was done, or how to fix it, is said once.
        remedy = "".join(str(first.group).partition("; ")[1:])
        return f"{number}: {one_line(first.group)}. First: {str(first).removesuffix(remedy)}"
    # The first place in full, the others without the folders.
    places = list(dict.fromkeys([first.where, *(problem.where.rpartition("/")[2] for problem in group[1:])]))
    more = ", …" if len(places) > _EXAMPLES else ""
    some = ", ".join(one_line(place, LONGEST_LINE // _EXAMPLES) for place in places[:_EXAMPLES])
    return f"{number}: {one_line(first.what)} ({some}{more})"


def outcomes(problems: Iterable[Problem]) -> str:
    """Count what was left out, changed and noted.

    Returns:
        For example `3 annotations left out; 12 annotations and 1 image changed`; empty without problems.
    """
    counts: dict[Outcome, dict[str, int]] = {"left out": {}, "changed": {}, "noted": {}}
    for problem in problems:
        units = counts[problem.outcome]
        units[problem.unit] = units.get(problem.unit, 0) + problem.count
    return "; ".join(
        f"{' and '.join(counted(number, unit) for unit, number in units.items())} {outcome}"
        for outcome, units in counts.items()
        if units
    )


def counted(number: int, noun: str) -> str:
    """Return a number with its noun in the singular or plural, for example `1 class`, `3,108 entries`."""
    if number == 1:
        return f"1 {noun}"
    ending = "es" if noun.endswith(("s", "x")) else "s"
    return f"{number:,} {noun[:-1]}ies" if noun.endswith("y") else f"{number:,} {noun}{ending}"


def listed(entries: Collection[object], *, indent: int = 2) -> str:
    """Return the lines of a list below the line that announces it.

    Args:
        entries: One a line; of more than 20 the first 20, and how many more there are.
        indent: Spaces before each line.

    Returns:
        The lines, each after a line break; empty without entries.
    """
    more = [f"… and {len(entries) - LISTED} more"] if len(entries) > LISTED else []
    lines = [*map(one_line, islice(entries, LISTED)), *more]
    return "".join(f"\n{' ' * indent}{line}" for line in lines)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message that is not empty; without one the name of the error's type."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
