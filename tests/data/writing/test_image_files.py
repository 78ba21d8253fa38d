"""Copies, hard links, and output folders that touch no input."""

from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.data.writing.image_files import ImageFiles, check_output
from support.written_datasets import dataset_of, image_record


def test_a_copy_is_no_link_to_the_original(tmp_path: Path) -> None:
    source = image_record(tmp_path, "a.png").path
    ImageFiles(link=False).place(source, tmp_path / "out/x/a.png")
    assert (tmp_path / "out/x/a.png").read_bytes() == source.read_bytes()
    assert not (tmp_path / "out/x/a.png").samefile(source)


def test_a_symbolic_link_is_followed(tmp_path: Path) -> None:
    source = image_record(tmp_path, "a.png").path
    (tmp_path / "link.png").symlink_to(source)
    for link in (False, True):
        target = tmp_path / f"out{link}.png"
        ImageFiles(link).place(tmp_path / "link.png", target)
        assert not target.is_symlink()
        assert target.read_bytes() == source.read_bytes()
        assert target.samefile(source) == link


def test_a_second_copy_is_made_where_links_are_impossible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("os.link", refuse)
    source = image_record(tmp_path, "a.png").path
    images = ImageFiles(link=False)
    for name in ("1.png", "2.png"):
        images.place(source, tmp_path / name)
        assert (tmp_path / name).read_bytes() == source.read_bytes()
    with pytest.raises(DetdistillError, match=r"a\.png"):
        ImageFiles(link=True).place(source, tmp_path / "3.png")


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"gone\.png"):
        ImageFiles(link=False).place(tmp_path / "gone.png", tmp_path / "out.png")


def test_an_output_in_an_image_folder_is_refused(tmp_path: Path) -> None:
    dataset = dataset_of(*(image_record(tmp_path / "set", f"images/{name}") for name in ("x/1.png", "y/2.png")))
    for name in ("set/images/x/out", "set/images/out", "set/images/y/z/out", "set/images/x"):
        with pytest.raises(DetdistillError, match="out" if name.endswith("out") else "exists"):
            check_output(tmp_path / name, [dataset])
    (tmp_path / "link").symlink_to(tmp_path / "set/images", target_is_directory=True)
    with pytest.raises(DetdistillError, match="out"):
        check_output(tmp_path / "link/out", [dataset])
    for name in ("out", "set/out", "set/images2/out"):
        check_output(tmp_path / name, [dataset])
