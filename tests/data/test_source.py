from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detdistill.core.errors import DataError, DetdistillError
from detdistill.data.opening import open_dataset
from detdistill.data.source import DatasetSource, check_dataset_outputs, opened
from support.small_datasets import WRITERS, write_coco, write_images, write_voc


def test_a_path_a_source_and_a_dataset_open_alike(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "set")
    read = open_dataset(folder)
    assert opened(read) is read
    for dataset in (folder, str(folder), DatasetSource(folder), DatasetSource(folder, "train")):
        assert opened(dataset).fingerprint == read.fingerprint
    with pytest.raises(DataError, match="there is no split 'test'"):
        opened(DatasetSource(folder, "test"))


def test_options_are_those_of_open_dataset(tmp_path: Path) -> None:
    write_coco(tmp_path / "set")
    (tmp_path / "set/train.json").rename(tmp_path / "odd.json")
    (tmp_path / "set/images").rename(tmp_path / "photos")
    source = DatasetSource(tmp_path, annotations=str(tmp_path / "odd.json"), images=str(tmp_path / "photos"))
    assert len(source.open().images) == 3
    assert source.split_names() == ["odd"]
    assert source.annotation_places() == [tmp_path / "odd.json"]


def test_what_was_left_out_is_noted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_voc(tmp_path / "set")
    (tmp_path / "set/Annotations/four.xml").write_text((tmp_path / "set/Annotations/one.xml").read_text())
    read = opened(tmp_path / "set")
    said = capsys.readouterr().err
    assert said.startswith("note: ") == bool(read.problems)
    opened(read)
    assert capsys.readouterr().err == ""


def test_parts(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "set")
    (folder / "ImageSets/Main/val.txt").write_text("one\n")
    source = DatasetSource(folder, follow_links=True)
    assert source.parts() == {name: replace(source, split=name) for name in ("train", "val")}
    assert list(replace(source, split="valid").parts()) == ["val"]


@pytest.mark.parametrize("name", WRITERS)
def test_no_output_replaces_a_file_of_the_dataset(name: str, tmp_path: Path) -> None:
    """Images, annotations, lists and class names; other files may be earlier outputs."""
    folder = WRITERS[name](tmp_path / "set", ".png")
    dataset = DatasetSource(folder)
    read = dataset.open()
    (tmp_path / "link.json").symlink_to(next(folder.rglob("one.png")))
    (tmp_path / "hard.json").hardlink_to(next(folder.rglob("one.png")))
    inputs = [path for path in folder.rglob("*") if path.is_file() and path.name not in ("two.png", "notes.json")]
    assert len(inputs) > 2
    for path in [*inputs, tmp_path / "link.json", tmp_path / "hard.json"]:
        with pytest.raises(DetdistillError, match=r"--json .* would replace the input"):
            check_dataset_outputs({path: "--json"}, dataset, read)
    (folder / "scores.json").write_text("{}")
    check_dataset_outputs({folder / "scores.json": "--json"}, dataset, read)
    check_dataset_outputs({folder / "new.txt": "--json"}, dataset, read)


def test_images_of_an_open_dataset_are_kept_too(tmp_path: Path) -> None:
    read = open_dataset(write_coco(tmp_path / "set"))
    write_images(tmp_path / "others")
    with pytest.raises(DetdistillError, match="would replace the input"):
        check_dataset_outputs({tmp_path / "set" / "images" / "one.png": "--sheet"}, read, read)
    check_dataset_outputs({tmp_path / "others" / "one.png": "--sheet"}, read, read)
