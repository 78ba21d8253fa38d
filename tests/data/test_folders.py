"""Names in annotation files mean files inside the folder, and no others."""

from __future__ import annotations

import unicodedata
from pathlib import Path, PurePath

import pytest

from detdistill.data.folders import Folder, files_in, folders_in, holds, is_foreign, skipped_files

IMAGES = frozenset({".jpg"})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images" / "sub").mkdir(parents=True)
    for name in ("images/a.jpg", "images/sub/b.jpg", "secret.jpg"):
        (tmp_path / name).touch()
    return tmp_path / "images"


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("a.jpg", "a.jpg"),
        ("./a.jpg", "a.jpg"),
        ("sub/b.jpg", "sub/b.jpg"),
        ("sub\\b.jpg", "sub/b.jpg"),
        (".\\a.jpg", "a.jpg"),
        ("A.JPG", "a.jpg"),
        ("Sub/B.jpg", "sub/b.jpg"),
        ("/home/other/images/sub/b.jpg", "sub/b.jpg"),
        ("/home/other/images/A.jpg", "a.jpg"),
        ("C:\\Users\\me\\images\\sub\\b.jpg", "sub/b.jpg"),
        ("D:/images/a.jpg", "a.jpg"),
        ("\\\\server\\share\\images\\a.jpg", "a.jpg"),
    ],
)
def test_a_name_means_the_one_file_that_it_can(name: str, means: str, folder: Path) -> None:
    found = Folder(folder).find(name)
    assert (found.fault, found.name) == (None, means)


def test_an_absolute_name_in_the_folder_is_that_file(folder: Path) -> None:
    (folder / "b.jpg").touch()
    found = Folder(folder).find(str(folder / "sub" / "b.jpg"))
    assert (found.fault, found.name, found.dropped) == (None, "sub/b.jpg", "")


def test_a_file_of_exactly_this_name_comes_first(folder: Path) -> None:
    for name in ("A.jpg", "sub\\b.jpg"):
        (folder / name).touch()
    assert Folder(folder).find("A.jpg").name == "A.jpg"
    assert Folder(folder).find("a.jpg").name == "a.jpg"
    assert Folder(folder).find("sub\\b.jpg").name == "sub\\b.jpg"


def test_names_of_another_unicode_form_are_found(folder: Path) -> None:
    (folder / unicodedata.normalize("NFD", "müde.jpg")).touch()
    assert Folder(folder).find(unicodedata.normalize("NFC", "müde.jpg")).fault is None


@pytest.mark.parametrize("name", ["a.JPG", "/old/A.jpg"])
def test_a_name_that_can_mean_two_files_is_a_fault(name: str, folder: Path) -> None:
    (folder / "A.jpg").touch()
    if name == "a.JPG":
        assert "could mean A.jpg or a.jpg" in str(Folder(folder).find(name).fault)
    else:
        assert Folder(folder).find(name).name == "A.jpg"
    (folder / "sub" / "a.jpg").touch()
    assert "could mean" in str(Folder(folder).find("/old/sub/a.jpg").fault)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("a", "a.jpg"),
        ("sub/b", "sub/b.jpg"),
        ("data/obj/sub/b.jpg", "sub/b.jpg"),
        ("data/sub/b", "sub/b.jpg"),
        ("A", "a.jpg"),
    ],
)
def test_listed_names_may_lack_the_ending_and_carry_other_folders(name: str, means: str, folder: Path) -> None:
    assert Folder(folder).find(name, listed=True).name == means
    assert Folder(folder).find(name).missing


def test_a_listed_name_without_ending_of_two_images_is_a_fault(folder: Path) -> None:
    (folder / "a.png").touch()
    assert "a.jpg or a.png" in str(Folder(folder).find("a", listed=True).fault)


def test_folders_that_are_not_here_are_told_apart(folder: Path) -> None:
    one, other = (Folder(folder).find(f"/data/{part}/a.jpg") for part in ("train", "val"))
    assert (one.name, other.name) == ("a.jpg", "a.jpg")
    assert one.dropped != other.dropped


@pytest.mark.parametrize(
    "name", ["../secret.jpg", "sub/../../secret.jpg", "/etc/passwd", "sub/../a.jpg", "..\\secret.jpg", "C:\\secret.jpg"]
)
def test_names_that_lead_out_are_refused(name: str, folder: Path) -> None:
    for must_exist in (True, False):
        assert "leaves the folder" in str(Folder(folder).find(name, must_exist=must_exist).fault)


@pytest.mark.parametrize("name", ["c.jpg", "sub", "sub/a.jpg", "none/a.jpg", "x" * 9999, ""])
def test_missing_files_are_named(name: str, folder: Path) -> None:
    assert "is not there" in str(Folder(folder).find(name).fault)
    assert Folder(folder).find(name, must_exist=False).fault is None


@pytest.mark.parametrize("name", ["a\0.jpg", "b\0/a.jpg"])
def test_names_that_no_file_can_have_are_refused(name: str, folder: Path) -> None:
    for must_exist in (True, False):
        assert "null character" in str(Folder(folder).find(name, must_exist=must_exist).fault)


def link_out(folder: Path) -> None:
    (folder / "inside.jpg").symlink_to(folder / "a.jpg")
    (folder / "outside.jpg").symlink_to(folder.parent / "secret.jpg")
    (folder / "up").symlink_to(folder.parent)
    (folder / "loop.jpg").symlink_to(folder / "loop.jpg")


def test_links_may_not_lead_out(folder: Path) -> None:
    link_out(folder)
    assert Folder(folder).find("inside.jpg").fault is None
    for name in ("outside.jpg", "up/secret.jpg", "/old/images/outside.jpg", "OUTSIDE.jpg"):
        for must_exist in (True, False):
            fault = str(Folder(folder).find(name, must_exist=must_exist).fault)
            assert "link that leaves" in fault
            assert "--follow-links" in fault
    assert Folder(folder).find("up/images/a.jpg").fault is None


def test_links_are_followed_where_the_user_wants_it(folder: Path) -> None:
    link_out(folder)
    links = Folder(folder, follow_links=True)
    for name in ("inside.jpg", "outside.jpg", "up/secret.jpg"):
        assert links.find(name).fault is None
    assert links.find("loop.jpg").fault == "is a link to a file that does not exist"
    assert "leaves" in str(links.find("../secret.jpg").fault)


def test_links_may_lead_to_other_places_of_the_dataset(folder: Path) -> None:
    link_out(folder)
    assert Folder(folder, within=folder.parent).find("outside.jpg").fault is None
    (folder / "etc").symlink_to("/etc")
    assert "link that leaves" in str(Folder(folder, within=folder.parent).find("etc/passwd").fault)


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    (folder.parent / "linked").symlink_to(folder)
    assert Folder(folder.parent / "linked").find("sub/b.jpg").fault is None
    assert Folder(folder.parent / "linked").find("a.jpg").fault is None


def test_walk_lists_files_in_order(folder: Path) -> None:
    assert list(Folder(folder).walk(IMAGES)) == [PurePath("a.jpg"), PurePath("sub/b.jpg")]
    assert Folder(folder).names(IMAGES) == ["a.jpg"]


def test_walk_enters_links_out_of_the_folder_only_where_the_user_wants_it(folder: Path, tmp_path: Path) -> None:
    pool = tmp_path / "pool"
    (pool / "deep").mkdir(parents=True)
    (pool / "deep" / "c.jpg").touch()
    (pool / "back").symlink_to(folder)
    (pool / "circle").symlink_to(pool)
    (folder / "pool").symlink_to(pool)
    (folder / "twin").symlink_to(folder / "sub")
    closed, followed = Folder(folder), Folder(folder, follow_links=True)
    assert list(closed.walk(IMAGES)) == [PurePath("a.jpg"), PurePath("sub/b.jpg")]
    assert closed.refused == ["pool"]
    assert list(followed.walk(IMAGES)) == [PurePath("a.jpg"), PurePath("pool/deep/c.jpg"), PurePath("sub/b.jpg")]
    assert followed.refused == []
    assert followed.find("pool/deep/c.jpg").fault is None


def test_hidden_files_and_those_of_other_programs_are_skipped_and_counted(folder: Path) -> None:
    for name in ("._a.jpg", ".DS_Store", "@eaDir/a.jpg", "__MACOSX/sub/._b.jpg", "sub/.ipynb_checkpoints/b.jpg"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    walked = Folder(folder)
    assert len(list(walked.walk(IMAGES))) == 2
    assert len(walked.skipped) == 4
    (problem,) = skipped_files("images", walked.skipped)
    assert (problem.where, problem.fatal) == ("images", False)
    assert "._a.jpg` and 3 more" in problem.what
    assert skipped_files("images", []) == []
    assert walked.find("._a.jpg").fault is None  # an annotation file may name it


def test_entries_of_a_folder_without_hidden_ones(folder: Path) -> None:
    for name in ("._x.jpg", "B.JPG", "notes.txt"):
        (folder / name).touch()
    (folder / "Train").mkdir()
    (folder / "__MACOSX").mkdir()
    assert [file.name for file in files_in(folder, IMAGES)] == ["B.JPG", "a.jpg"]
    assert [entry.name for entry in folders_in(folder)] == ["Train", "sub"]
    assert [entry.name for entry in folders_in(folder, {"train"})] == ["Train"]
    assert files_in(folder / "none", IMAGES) == folders_in(folder / "none") == []
    assert holds(folder, IMAGES)
    assert not holds(folder, {".xml"})
    assert not holds(folder / "none", IMAGES)
    assert is_foreign("__MACOSX")
