from __future__ import annotations

import pytest

from detdistill.core import progress
from detdistill.core.progress import track


def test_a_quick_job_says_nothing_where_there_is_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], "counting")) == [3, 1, 2]
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("items", "said"), [(25, 10), (3, 3), (0, 0)])
def test_a_long_job_says_ten_lines(
    items: int, said: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    list(track(range(items), "counting"))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == said
    assert lines[-1:] == ([f"counting: {items} of {items}"] if items else [])
