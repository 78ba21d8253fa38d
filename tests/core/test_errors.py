from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import LISTED, DataError, Problem, counted, first_line, grouped, listed, outcomes


def test_few_entries_are_all_told() -> None:
    assert listed(["a", "b"]) == "\n  a\n  b"
    assert listed(["a"], indent=4) == "\n    a"
    assert listed([]) == ""


@given(st.integers(0, 100))
def test_no_entry_goes_uncounted(count: int) -> None:
    lines = listed(range(count)).splitlines()[1:]
    told = [line.strip() for line in lines if "more" not in line]
    assert told == [str(number) for number in range(min(count, LISTED))]
    more = [line for line in lines if "more" in line]
    assert more == ([f"  … and {count - LISTED} more"] if count > LISTED else [])


def test_a_data_error_keeps_all_problems_and_shows_them_grouped() -> None:
    problems = [Problem(f"labels/a.txt:{line}", "no box", outcome="left out", unit="annotation") for line in range(30)]
    error = DataError("a.txt cannot be used:", problems)
    assert (error.summary, error.problems) == ("a.txt cannot be used:", tuple(problems))
    assert str(error) == ("a.txt cannot be used:\n  30 annotations: no box (labels/a.txt:0, a.txt:1, a.txt:2, …)")


def test_a_group_of_different_values_shows_the_first_and_the_remedy_once() -> None:
    problems = [Problem(f"a.json: {n}", f"bbox is {n}; left out", group="bbox is wrong; left out") for n in range(2)]
    assert grouped(problems) == ["2 entries: bbox is wrong; left out. First: a.json: 0: bbox is 0"]
    assert grouped(problems[:1]) == ["a.json: 0: bbox is 0; left out"]


@pytest.mark.parametrize("change", [{"fatal": True}, {"outcome": "changed"}, {"unit": "image"}, {"group": "y"}])
def test_problems_of_another_kind_are_another_group(change: dict[str, Any]) -> None:
    problem = Problem("a", "x", outcome="left out", unit="annotation")
    assert len(grouped([problem, problem])) == 1
    assert len(grouped([problem, replace(problem, **change)])) == 2


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.integers(1, 5))))
def test_grouping_counts_every_unit(entries: list[tuple[str, str, int]]) -> None:
    problems = [Problem(where, what, unit="image", count=count, group="g") for where, what, count in entries]
    lines = grouped(problems)
    assert len(lines) == bool(entries)
    if len(entries) > 1:
        assert lines[0].startswith(f"{sum(count for *_, count in entries)} images: ")


def test_outcomes_are_counted_apart_with_their_nouns() -> None:
    problems = [
        Problem("a", "x", outcome="changed", unit="annotation", count=1200),
        Problem("a", "x", outcome="left out", unit="annotation"),
        Problem("a", "x", outcome="left out", unit="image", count=2),
        Problem("a", "x"),
    ]
    assert outcomes(problems) == "1 annotation and 2 images left out; 1,200 annotations changed; 1 entry noted"
    assert outcomes([]) == ""


@pytest.mark.parametrize(("noun", "plural"), [("image", "images"), ("entry", "entries"), ("class", "classes")])
def test_numbers_have_the_right_noun(noun: str, plural: str) -> None:
    assert [counted(number, noun) for number in (0, 1, 1234)] == [f"0 {plural}", f"1 {noun}", f"1,234 {plural}"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError(), "ValueError"),
        (ValueError(""), "ValueError"),
        (ValueError("\n \n first \nsecond"), "first"),
        (OSError(), "OSError"),
        (KeyError("a"), "'a'"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, line: str) -> None:
    assert first_line(error) == line


@given(st.lists(st.builds(Problem, st.text(), st.text(), group=st.none() | st.text()), max_size=8))
def test_each_kind_of_problem_is_one_line(problems: list[Problem]) -> None:
    lines = grouped(problems)
    assert not any("\n" in line or "\x1b" in line for line in [*lines, *map(str, problems)])
    assert DataError("summary", problems).args[0].count("\n") <= LISTED + 1


def test_long_names_make_no_long_message() -> None:
    problems = [Problem(f"{number}" + "x" * 300_000, "y" * 300_000) for number in range(5)]
    assert len(str(DataError("summary", problems))) < 20_000
    assert len(str(DataError("summary", [Problem("a", f"{number}" + "y" * 300_000) for number in range(50)]))) < 50_000


@pytest.mark.parametrize(
    ("number", "noun", "expected"),
    [(1, "box", "1 box"), (2, "box", "2 boxes"), (0, "class", "0 classes"), (3_108, "entry", "3,108 entries")],
)
def test_a_noun_agrees_with_its_number(number: int, noun: str, expected: str) -> None:
    assert counted(number, noun) == expected
