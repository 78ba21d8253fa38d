"""Datasets that name files outside of their folder, or that are no files: refused, and nothing of them is shown."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detdistill.core.errors import DataError
from detdistill.data import open_dataset
from support.small_datasets import write_coco, write_images, write_voc, write_yolo

NAMES = "names: [cat, dog]\n"
SECRET = "root:x:0:0:secret"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A YOLO dataset beside a file and a folder of somebody else."""
    write_yolo(tmp_path / "inner")
    (tmp_path / "secret").write_text(f"{SECRET}\nsecond:{SECRET}\n")
    write_images(tmp_path / "others")
    return tmp_path / "inner"


def everything_said(error: DataError) -> str:
    return "\n".join([str(error), *map(str, error.problems)])


@pytest.mark.parametrize("key", ["train", "val", "test"])
@pytest.mark.parametrize(
    "place",
    [
        "/etc/passwd",
        "/dev/zero",
        "../secret",
        "../others",
        "../../../../../../../../../etc/passwd",
        "images/../../secret",
        "{parent}/secret",
        "{parent}/others",
        "file_link",
        "folder_link",
        "folder_link/one.png",
    ],
)
@pytest.mark.parametrize("form", ["{}", "[{}]", "[images/train, {}]"])
def test_no_place_leaves_the_folder(place: str, form: str, key: str, root: Path) -> None:
    (root / "file_link").symlink_to(root.parent / "secret")
    (root / "folder_link").symlink_to(root.parent / "others")
    named = form.format(place.format(parent=root.parent))
    (root / "data.yaml").write_text(f"{key}: {named}\n{NAMES}")
    with pytest.raises(DataError) as error:
        open_dataset(root, key)
    assert any(problem.fatal and str(root) in str(problem) for problem in error.value.problems)
    assert SECRET not in everything_said(error.value)


@pytest.mark.parametrize("path", ["..", "../others", "/etc", "/", "{parent}/others", "link", "images/../.."])
def test_the_root_does_not_leave_the_folder(path: str, root: Path) -> None:
    (root / "link").symlink_to(root.parent / "others")
    (root / "data.yaml").write_text(f"path: {path.format(parent=root.parent)}\ntrain: .\n{NAMES}")
    with pytest.raises(DataError) as error:
        open_dataset(root, "train")
    assert any(problem.fatal and "'path'" in problem.what for problem in error.value.problems)


def test_who_follows_links_may_read_other_folders(root: Path) -> None:
    (root / "data.yaml").write_text(f"path: ..\ntrain: others\n{NAMES}")
    assert len(open_dataset(root, "train", follow_links=True).images) == 3


@pytest.mark.parametrize("names", ["../secret", "/etc/passwd", "/dev/zero", "link"])
def test_class_names_are_read_from_the_folder(names: str, root: Path) -> None:
    (root / "data.yaml").unlink()
    (root / "link").symlink_to(root.parent / "secret")
    (root / "obj.data").write_text(f"classes = 2\ntrain = images/train\nnames = {names}\n")
    with pytest.raises(DataError) as error:
        open_dataset(root, "train")
    assert SECRET not in everything_said(error.value)


def test_a_linked_file_of_class_names_is_refused(root: Path) -> None:
    (root / "data.yaml").unlink()
    (root / "classes.txt").symlink_to(root.parent / "secret")
    with pytest.raises(DataError) as error:
        open_dataset(root, "train")
    assert SECRET not in everything_said(error.value)


@pytest.mark.parametrize("name", ["labelmap.txt", "ImageSets/Main/train.txt"])
def test_linked_lists_of_voc_are_refused(name: str, root: Path) -> None:
    voc = root.parent / "voc"
    write_voc(voc)
    (voc / name).unlink(missing_ok=True)
    (voc / name).symlink_to(root.parent / "secret")
    with pytest.raises(DataError) as error:
        open_dataset(voc, "train")
    assert any(problem.fatal and problem.where == str(voc / name) for problem in error.value.problems)
    assert SECRET not in everything_said(error.value)


SPECIAL: dict[str, tuple[Callable[[Path], object], str]] = {
    "COCO file": (write_coco, "train.json"),
    "COCO image": (write_coco, "images/one.png"),
    "VOC file": (write_voc, "Annotations/one.xml"),
    "VOC image": (write_voc, "JPEGImages/one.jpg"),
    "VOC list": (write_voc, "ImageSets/Main/train.txt"),
    "VOC class list": (write_voc, "labelmap.txt"),
    "YOLO labels": (write_yolo, "labels/train/one.txt"),
    "YOLO image": (write_yolo, "images/train/one.png"),
    "YOLO data file": (write_yolo, "data.yaml"),
}


@pytest.mark.timeout(60)  # opened as usual, a pipe blocks for ever
@pytest.mark.parametrize("kind", ["pipe", "linked pipe", "/dev/zero"])
@pytest.mark.parametrize("case", SPECIAL)
def test_what_is_no_regular_file_is_not_read(case: str, kind: str, tmp_path: Path) -> None:
    write, name = SPECIAL[case]
    root = tmp_path / "data"
    write(root)
    file = root / name
    file.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "linked pipe":
        os.mkfifo(root / "pipe")
        file.symlink_to(root / "pipe")
    else:
        file.symlink_to(kind)
    for follow in (False, True):
        try:
            dataset = open_dataset(root, "train" if (root / "ImageSets").exists() else None, follow_links=follow)
        except DataError:
            continue
        # Others may be missing: what is listed by a folder alone is not there if it is no file.
        assert case not in ("COCO file", "COCO image", "VOC image", "VOC list")
        assert dataset.images
