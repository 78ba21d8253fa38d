from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from detdistill.core.errors import DataError
from detdistill.data.plain_images import plain_images
from support.small_runs import write_boxes


def write(folder: Path, *names: str) -> None:
    for number, name in enumerate(names, start=1):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10 * number, 8)).save(folder / name)


def names_of(*sources: str | Path) -> list[str]:
    return list(plain_images(sources).images.file_names)


def test_folders_patterns_lists_and_datasets_each_image_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "in/b.png", "in/deep/a.jpg", "c1.png", "c2.png")
    (tmp_path / "list.txt").write_text("in/b.png\n\n# a remark\nc1.png\n")
    monkeypatch.chdir(tmp_path)
    found = plain_images(["in", "c*.png", "in/b.png"])
    assert list(found.images.file_names) == ["b.png", "deep/a.jpg", "c1.png", "c2.png"]
    assert found.images.sizes.tolist() == [[8, 10], [8, 20], [8, 30], [8, 40]]
    assert found.images.image_ids == ["b", "a", "c1", "c2"]
    assert not found.problems
    assert names_of("list.txt") == ["in/b.png", "c1.png"]
    assert names_of("in/deep/a.jpg", "c*.png") == ["a.jpg", "c1.png", "c2.png"]
    boxes = write_boxes(tmp_path / "boxes", train=3, val=2)
    assert names_of(boxes / "annotations" / "instances_train.json") == ["0.png", "1.png", "2.png"]
    assert len(plain_images([boxes]).images) == 5


def test_a_list_of_voc_names_images_of_its_dataset(tmp_path: Path) -> None:
    write(tmp_path, "JPEGImages/one.jpg", "JPEGImages/two.jpg")
    (tmp_path / "Annotations").mkdir()
    for name, width in (("one", 10), ("two", 20)):
        size = f"<size><width>{width}</width><height>8</height><depth>3</depth></size>"
        text = f"<annotation><filename>{name}.jpg</filename>{size}</annotation>"
        (tmp_path / "Annotations" / f"{name}.xml").write_text(text)
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    listing = tmp_path / "ImageSets" / "Main" / "train.txt"
    listing.write_text("two\n")
    assert names_of(listing) == ["two.jpg"]


def test_broken_images_are_left_out_and_told(tmp_path: Path) -> None:
    write(tmp_path, "a.png", "b.png")
    (tmp_path / "c.png").write_bytes(b"no image")
    found = plain_images([tmp_path])
    assert list(found.images.file_names) == ["a.png", "b.png"]
    (problem,) = found.problems
    assert (problem.where, problem.unit, problem.outcome) == (str(tmp_path / "c.png"), "image", "left out")


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"no image")
    (tmp_path / "list.txt").write_text("missing.png\n")
    (tmp_path / "none.txt").write_text("\n")
    (tmp_path / "torn.json").write_text(json.dumps({"images": 3}))
    for source in ("empty", "broken", "nowhere", "list.txt", "none.txt", "torn.json"):
        with pytest.raises(DataError, match=source):
            plain_images([tmp_path / source])


def test_a_missing_image_of_a_list_is_named_with_its_line(tmp_path: Path) -> None:
    write(tmp_path, "a.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n")
    with pytest.raises(DataError) as error:
        plain_images([tmp_path / "list.txt"])
    (problem,) = error.value.problems
    assert problem.where == f"{tmp_path / 'list.txt'}:2"
