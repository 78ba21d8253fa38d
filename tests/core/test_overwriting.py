from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detdistill.core.errors import DetdistillError
from detdistill.core.overwriting import check_output_folder, check_outputs

Place = Callable[[Path], Path]


def linked(folder: Path) -> Path:
    (folder / "link").symlink_to("in/a.png")
    return folder / "link"


def through_a_linked_folder(folder: Path) -> Path:
    (folder / "other").symlink_to("in")
    return folder / "other" / "a.png"


def hard_linked(folder: Path) -> Path:
    (folder / "hard").hardlink_to(folder / "in" / "a.png")
    return folder / "hard"


def the_target_of_an_input(folder: Path) -> Path:
    (folder / "in" / "a.png").rename(folder / "elsewhere.png")
    (folder / "in" / "a.png").symlink_to("../elsewhere.png")
    return folder / "elsewhere.png"


def an_input_that_is_a_dangling_link(folder: Path) -> Path:
    (folder / "in" / "a.png").unlink()
    (folder / "in" / "a.png").symlink_to("nowhere.png")
    return folder / "in" / "a.png"


PLACES: dict[str, Place] = {
    "itself": lambda folder: folder / "in" / "a.png",
    "with dots": lambda folder: folder / "in" / ".." / "in" / "." / "a.png",
    "relative": lambda folder: Path(os.path.relpath(folder / "in" / "a.png")),
    "link": linked,
    "linked folder": through_a_linked_folder,
    "hard link": hard_linked,
    "target": the_target_of_an_input,
    "dangling": an_input_that_is_a_dangling_link,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_text("a")
    (tmp_path / "in" / "b.png").write_text("b")
    return tmp_path


@pytest.mark.parametrize("place", PLACES)
def test_every_name_of_an_input_is_found(folder: Path, place: str) -> None:
    output = PLACES[place](folder)
    inputs = [folder / "in" / "b.png", folder / "in" / "a.png"]
    with pytest.raises(DetdistillError, match=r"--json .*would replace the input .*a\.png"):
        check_outputs({folder / "new": "--json", output: "--json"}, inputs)


def test_what_replaces_nothing_is_allowed(folder: Path) -> None:
    (folder / "out.json").write_text("an earlier output")
    outputs = {folder / "out.json": "--json", folder / "in" / "new.json": "--json", Path("/dev/null"): "--json"}
    check_outputs(outputs, [folder / "in" / "a.png", folder / "missing.png"])
    check_outputs({folder / "in" / "a.png": "--json"}, [])
    check_outputs({folder / "new" / "x": "--out"}, [folder / "in" / "a.png"], makes_folders=True)


def test_all_files_of_a_folder_can_be_inputs(folder: Path) -> None:
    check_outputs({folder / "in" / "new.png": "--json"}, [folder / "in"])
    with pytest.raises(DetdistillError, match="would replace the input"):
        check_outputs({folder / "in" / "a.png": "--json"}, [folder / "in"])


def test_places_that_cannot_be_written_are_told_before_the_work(folder: Path) -> None:
    with pytest.raises(DetdistillError, match=r"--json .*in cannot be written: this is a folder"):
        check_outputs({folder / "in": "--json"}, [])
    with pytest.raises(DetdistillError, match=r"--json .*there is no folder .*absent"):
        check_outputs({folder / "absent" / "x.json": "--json"}, [])


def test_a_folder_that_holds_an_input_is_refused(folder: Path) -> None:
    (folder / "link").symlink_to("in")
    (folder / "shown").mkdir()
    (folder / "shown" / "c.png").symlink_to("../in/b.png")
    a, c = folder / "in" / "a.png", folder / "shown" / "c.png"
    for out, files in (("in", [a]), ("link", [a]), ("in/../in", [a]), ("in", [c]), ("shown", [c])):
        with pytest.raises(DetdistillError, match=r"--out .*holds the input [ac]\.png"):
            check_output_folder(folder / out, "--out", files)
    check_output_folder(folder / "new", "--out", [a, c])
    check_output_folder(folder, "--out", [a, c])
    with pytest.raises(DetdistillError, match="is not a folder"):
        check_output_folder(a, "--out", [])
