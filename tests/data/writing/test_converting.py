from __future__ import annotations

from pathlib import Path

import pytest

from detdistill.core.errors import DataError, DetdistillError
from detdistill.data.opening import open_dataset
from detdistill.data.source import DatasetSource
from detdistill.data.writing.converting import convert_dataset, write_split
from support.small_datasets import write_coco, write_voc


def test_all_parts_or_one_are_converted(tmp_path: Path) -> None:
    folder = write_voc(tmp_path / "set")
    (folder / "ImageSets/Main/val.txt").write_text("one\n")
    converted = convert_dataset(folder, tmp_path / "all", "coco")
    assert converted.split is None
    assert {name: len(part.images) for name, part in converted.written.parts.items()} == {"train": 3, "val": 1}
    assert len(converted.sources) == 2
    one = convert_dataset(DatasetSource(folder, "val"), tmp_path / "one", "yolo", link=True)
    assert list(one.written.parts) == ["val"]
    assert len(open_dataset(tmp_path / "one").images) == 1


def test_a_new_split_is_the_same_in_both_functions(tmp_path: Path) -> None:
    folder = write_coco(tmp_path / "set")
    converted = convert_dataset(folder, tmp_path / "out", "voc", val=0.34, test=0.33, seed=4)
    written = write_split(folder, val=0.34, test=0.33, seed=4)
    assert written.folder == tmp_path / "set_split"
    assert converted.split is not None
    for name in ("train", "val", "test"):
        names = [list(split.parts[name].images.file_names) for split in (converted.split, written.split)]
        assert names[0] == names[1]
        assert len(open_dataset(written.folder, name).images) == 1


@pytest.mark.parametrize("out", ["set", "set/images/new", "link"])
def test_a_folder_in_the_way_is_refused(tmp_path: Path, out: str) -> None:
    folder = write_coco(tmp_path / "set")
    (tmp_path / "link").symlink_to("nowhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DetdistillError):
        convert_dataset(folder, tmp_path / out, "yolo")
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(DataError, match="cannot be used"):
        write_split(folder, tmp_path / "new", val=2.0)
    assert not (tmp_path / "new").exists()
