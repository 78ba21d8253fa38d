from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.core.json_files import JsonListFile, write_json

TEXTS = st.text() | st.binary(max_size=20).map(os.fsdecode)
"""Text, and file names that are not UTF-8."""
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(VALUES, max_size=5), st.sampled_from([None, 1, 2]))
def test_what_was_written_is_read_again(values: list[object], indent: int | None) -> None:
    with TemporaryDirectory() as folder:
        file = Path(folder, "values.json")
        write_json(file, values, indent=indent)
        assert json.loads(file.read_bytes()) == values
        with JsonListFile(file) as entries:
            for value in values:
                entries.add(value)
        assert json.loads(file.read_bytes()) == values


def test_letters_stay_readable_and_other_bytes_become_escapes(tmp_path: Path) -> None:
    write_json(tmp_path / "names.json", [os.fsdecode(b"\xff"), "Ü猫"])
    assert "Ü猫" in (tmp_path / "names.json").read_text(encoding="utf-8")


def test_a_list_appears_at_the_end_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "list.json"
    with JsonListFile(file) as entries:
        entries.add({"a": 1})
        assert not file.exists()
    before = file.read_bytes()
    with contextlib.suppress(ZeroDivisionError), JsonListFile(file) as entries:
        entries.add({"a": 2})
        raise ZeroDivisionError
    assert file.read_bytes() == before
    with pytest.raises(ValueError, match="not JSON compliant"), JsonListFile(file) as entries:
        entries.add({"a": float("nan")})
    assert file.read_bytes() == before
    assert [*tmp_path.iterdir()] == [file]


def test_a_folder_that_is_not_there_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"absent/list\.json cannot be written"):
        JsonListFile(tmp_path / "absent" / "list.json")
