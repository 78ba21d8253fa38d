from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from PIL import Image

from detdistill.core.errors import DetdistillError
from detdistill.data.finding import find_pictures


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(folder / name)


def test_files_folders_and_patterns_each_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "b.png", "a/2.JPG", "a/deep/1.png", "c1.png", "c2.png")
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    monkeypatch.chdir(tmp_path)
    found = [str(path) for path in find_pictures(["b.png", "a", "c*.png", "b.png"])]
    assert found == ["b.png", "a/2.JPG", "a/deep/1.png", "c1.png", "c2.png"]
    assert len(find_pictures(["**/*.png"])) == 4


@pytest.mark.parametrize(
    ("name", "message"), [("x.png", "there is no such file"), ("empty", "no image in this folder")]
)
def test_nothing_by_a_name_is_told(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetdistillError, match=message):
        find_pictures([str(tmp_path / name)])


def test_what_is_no_regular_file_is_left_out_or_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading a pipe, a socket or a device would wait for ever."""
    write(tmp_path, "in/a.png", "in/deep/b.png")
    monkeypatch.chdir(tmp_path)
    os.mkfifo("in/pipe.png")
    os.mkfifo("in/deep/pipe.jpg")
    Path("in/link.png").symlink_to("pipe.png")
    Path("in/device.png").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("in/socket.png")
    found = ["in/a.png", "in/deep/b.png"]
    assert [str(path) for path in find_pictures(["in"])] == found
    assert [str(path) for path in find_pictures(["in/**/*.*g"])] == found
    for name in ("in/pipe.png", "in/link.png", "in/device.png", "in/socket.png", "/dev/zero"):
        with pytest.raises(DetdistillError, match=f"{name}: this is a pipe, a socket or a device"):
            find_pictures([name])
    with pytest.raises(DetdistillError, match="there is no such file"):
        find_pictures(["in/pipe*"])


def test_a_dangling_link_is_found_so_that_reading_tells_it(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert [path.name for path in find_pictures([tmp_path])] == ["a.png", "gone.png"]


@pytest.mark.parametrize("name", ["a\0b.png", "x" * 5000 + ".png"])
def test_names_that_no_file_can_have_are_told(name: str) -> None:
    with pytest.raises(DetdistillError, match="there is no such file"):
        find_pictures([name])
