from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically


def test_replaces_the_file_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old and longer")
    write_atomically(path, "neu: ü")
    assert path.read_text(encoding="utf-8") == "neu: ü"
    assert [*tmp_path.iterdir()] == [path]


def test_what_cannot_be_written_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full_disk)
    with pytest.raises(DetdistillError, match=r"numbers\.json cannot be written: No space left on device"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"absent/numbers\.json cannot be written: No such file or directory"):
        write_atomically(tmp_path / "absent" / "numbers.json", "")


def test_a_device_is_written_to_and_not_replaced() -> None:
    write_atomically(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
