"""File names stay inside their folder."""

from __future__ import annotations

from pathlib import Path, PurePath

import pytest

from detdistill.data.folders import Folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("images/a.jpg", "images/sub/b.jpg", "secret.jpg"):
        (tmp_path / name).touch()
    return tmp_path / "images"


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "sub/b.jpg"])
def test_files_inside_are_found(name: str, folder: Path) -> None:
    assert Folder(folder).fault(name) is None


@pytest.mark.parametrize("name", ["../secret.jpg", "sub/../../secret.jpg", "/etc/passwd", "sub/../a.jpg"])
def test_names_that_lead_out_are_refused(name: str, folder: Path) -> None:
    for must_exist in (True, False):
        assert "leaves the folder" in str(Folder(folder).fault(name, must_exist=must_exist))


@pytest.mark.parametrize("name", ["c.jpg", "A.jpg", "sub", "sub/a.jpg", "none/a.jpg", "x" * 9999, ""])
def test_missing_files_are_named(name: str, folder: Path) -> None:
    assert "is not there" in str(Folder(folder).fault(name))
    assert Folder(folder).fault(name, must_exist=False) is None


@pytest.mark.parametrize("name", ["a\0.jpg", "b\0/a.jpg"])
def test_names_that_no_file_can_have_are_refused(name: str, folder: Path) -> None:
    for must_exist in (True, False):
        assert "null character" in str(Folder(folder).fault(name, must_exist=must_exist))


def test_links_may_not_lead_out(folder: Path) -> None:
    (folder / "inside.jpg").symlink_to(folder / "a.jpg")
    (folder / "outside.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "up").symlink_to(folder.parent)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")
    assert Folder(folder).fault("inside.jpg") is None
    for name in ("outside.jpg", "up/secret.jpg"):
        for must_exist in (True, False):
            assert "link that leaves" in str(Folder(folder).fault(name, must_exist=must_exist))
    assert Folder(folder).fault("up/images/a.jpg") is None


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    (folder.parent / "linked").symlink_to(folder)
    assert Folder(folder.parent / "linked").fault("sub/b.jpg") is None
    assert Folder(folder.parent / "linked").fault("a.jpg") is None


def test_walk_lists_all_files_in_order_and_enters_no_link(folder: Path) -> None:
    (folder / "up").symlink_to(folder.parent)
    assert list(Folder(folder).walk()) == [PurePath("a.jpg"), PurePath("up"), PurePath("sub/b.jpg")]
    assert Folder(folder).names() == ["a.jpg", "up"]
