from __future__ import annotations

import os
from pathlib import Path

import pytest

from detdistill.compare.kept_record import read_kept
from detdistill.core.errors import DetdistillError


def test_values_are_read_and_a_missing_file_has_none(tmp_path: Path) -> None:
    assert read_kept(tmp_path / "times.json") == {}
    (tmp_path / "times.json").write_text('{"hint": 0.5}')
    assert read_kept(tmp_path / "times.json") == {"hint": 0.5}


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe", b"3", b"[" * 5000])
def test_a_damaged_file_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "times.json"
    file.write_bytes(content)
    with pytest.raises(DetdistillError, match=r"times.json is damaged"):
        read_kept(file)


def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "times.json")
    with pytest.raises(DetdistillError, match=r"times.json cannot be read: .*pipe"):
        read_kept(tmp_path / "times.json")
