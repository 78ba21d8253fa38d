from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detdistill.errors import LISTED, DataError, Problem, listed


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


def test_a_data_error_keeps_what_it_does_not_tell() -> None:
    problems = [Problem(f"a.txt:{line}", "no box") for line in range(30)]
    error = DataError("a.txt cannot be used:", problems)
    assert error.problems == tuple(problems)
    assert str(error).startswith("a.txt cannot be used:\n  a.txt:0: no box\n  a.txt:1: no box\n")
    assert str(error).endswith("\n  a.txt:19: no box\n  … and 10 more")
