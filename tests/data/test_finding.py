from __future__ import annotations

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
