from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.core.files import (
    DEEPEST,
    AtomicFile,
    check_new,
    new_folder,
    open_regular,
    read_json,
    read_regular,
    replacing,
    write_atomically,
)


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


def test_a_file_written_in_pieces_appears_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old")
    with AtomicFile(path) as file:
        file.write("ne")
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new"
    assert [*tmp_path.iterdir()] == [path]


def test_an_error_between_the_pieces_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("old")
    with contextlib.suppress(ZeroDivisionError), AtomicFile(path) as file:
        file.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert [*tmp_path.iterdir()] == [path]


def test_a_full_disk_between_the_pieces_is_told() -> None:
    full = Path("/dev/full")
    with pytest.raises(DetdistillError, match="/dev/full cannot be written: No space left"), AtomicFile(full) as file:
        file.write(bytes(1 << 20))
    assert Path("/dev/full").is_char_device()


def test_a_library_writes_beside_the_name_and_never_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "input.onnx").write_text("input")
    link, hard = tmp_path / "link.onnx", tmp_path / "hard.onnx"
    link.symlink_to("input.onnx")
    hard.hardlink_to(tmp_path / "input.onnx")
    for path in (link, hard, tmp_path / "new" / "x.onnx"):
        with replacing(path) as partial:
            assert partial.suffix == ".onnx"
            partial.write_text("new")
        assert path.read_text() == "new"
        assert not path.is_symlink()
    with contextlib.suppress(ZeroDivisionError), replacing(link) as partial:
        partial.write_text("half")
        raise ZeroDivisionError
    assert link.read_text() == "new"
    assert (tmp_path / "input.onnx").read_text() == "input"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hard.onnx", "input.onnx", "link.onnx", "new"]


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("kept")
    with (
        pytest.raises(DetdistillError, match=r"file/x\.onnx cannot be written"),
        replacing(tmp_path / "file" / "x.onnx"),
    ):
        pass
    assert (tmp_path / "file").read_text() == "kept"


def test_a_dangling_link_is_no_place_for_a_new_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(DetdistillError, match="link exists already"):
        check_new(tmp_path / "link")
    with pytest.raises(DetdistillError, match="link exists already"), new_folder(tmp_path / "link"):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


@pytest.mark.timeout(60)  # opened as usual, a pipe blocks for ever
@pytest.mark.parametrize("kind", ["pipe", "link to a pipe", "socket", "/dev/zero", "/dev/null"])
def test_only_regular_files_are_opened(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    path = Path(kind if kind.startswith("/") else "special")
    if kind == "socket":
        socket.socket(socket.AF_UNIX).bind("special")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link to a pipe":
        os.mkfifo("pipe")
        path.symlink_to("pipe")
    for read in (open_regular, read_regular, read_json):
        with pytest.raises(OSError, match="regular files") as error:
            read(path)
        assert error.value.filename == str(path)
    assert not re.search("regular", os.strerror(error.value.errno or 0))


def test_folders_and_missing_files_are_the_systems_errors(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "absent")


@pytest.mark.parametrize("size", [9, 1 << 40])
def test_a_larger_file_is_not_read(size: int, tmp_path: Path) -> None:
    path = tmp_path / "large"
    with path.open("wb") as file:
        try:
            file.truncate(size)  # takes no room on disk
        except OSError:
            pytest.skip("this file system holds no file of that size")
    with pytest.raises(OSError, match="8 bytes") as error:
        read_regular(path, 8)
    assert error.value.errno == errno.EFBIG


def test_a_file_of_the_largest_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    assert read_regular(path, 8) == read_regular(path) == b"12345678"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="this system has no /proc")
def test_a_file_that_grows_beyond_its_size_is_not_read() -> None:
    assert Path("/proc/self/maps").stat().st_size == 0
    with pytest.raises(OSError, match="larger"):
        read_regular("/proc/self/maps", 8)


@pytest.mark.parametrize(
    "text",
    [
        "[" * (DEEPEST + 1) + "]" * (DEEPEST + 1),
        '{"a":' * 100_000,
        '{"a":' * 5_000 + "1" + "}" * 5_000,
        "9" * 5_000,
        "{",
        "\xff",
    ],
)
def test_what_is_no_usual_json_is_a_value_error(text: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(ValueError, match=r".") as error:
        read_json(path)
    assert not isinstance(error.value, RecursionError)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=10,
    )
)
@settings(max_examples=30)
def test_json_of_usual_depth_is_read(values: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.json"
        path.write_text(json.dumps(values), encoding="utf-8")
        assert read_json(path) == values
