from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from detdistill.core.errors import DataError, DetdistillError
from detdistill.data.comparing import ComparedImages, compare_images, read_others, read_pictures
from detdistill.data.source import DatasetSource
from support.small_datasets import write_voc, write_yolo


def photograph(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC)


def write_part(folder: Path, name: str, seeds: dict[str, int]) -> Path:
    """A COCO part with one object an image; the images of `seeds` by their file names."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    for number, (file_name, seed) in enumerate(seeds.items()):
        photograph(seed).save(folder / "images" / file_name)
        images.append({"id": number, "file_name": file_name, "width": 64, "height": 48})
    boxes = [{"id": n, "image_id": n, "category_id": 1, "bbox": [3, 4, 20, 30]} for n in range(len(images))]
    content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cat"}]}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = write_part(tmp_path / "set", "train", {"a.png": 1, "b.png": 2})
    return write_part(root, "val", {"c.png": 3, "d.png": 2, "e.png": 4})


@pytest.fixture
def shots(tmp_path: Path) -> Path:
    (tmp_path / "shots" / "deep").mkdir(parents=True)
    ImageEnhance.Brightness(photograph(1).resize((48, 36))).enhance(0.7).save(tmp_path / "shots" / "dark.jpg")
    photograph(9).save(tmp_path / "shots" / "deep" / "other.png")
    return tmp_path / "shots"


def read(folder: Path, part: str) -> ComparedImages:
    images = DatasetSource(folder, part).open().images
    return ComparedImages.read(part, images.file_names, images.paths)


def test_a_part_is_compared_with_another(folder: Path) -> None:
    found = compare_images(read(folder, "train"), read_others("val", DatasetSource(folder)))
    assert (found.title, found.against, found.images, found.others) == ("train", "val", 2, 3)
    assert found.pairs == (("b.png", "d.png"),)
    assert (found.same_files, found.unreadable, found.others_unreadable) == (0, 0, 0)


def test_a_file_is_no_near_duplicate_of_itself(folder: Path) -> None:
    (folder / "link").symlink_to("images")
    for other in ("val", "val.json", str(folder / "link" / "[cde].png")):
        found = compare_images(read(folder, "val"), read_others(other, DatasetSource(folder)))
        assert (found.pairs, found.same_files) == ((), 3)
    # All parts: the images of the part itself are in them, and one has a near-duplicate in another part.
    found = compare_images(read(folder, "val"), read_others(folder, DatasetSource(folder)))
    assert (found.pairs, found.same_files, found.others) == ((("d.png", "b.png"),), 3, 5)


@pytest.mark.parametrize(
    ("other", "names"),
    [
        ("val", ["c.png", "d.png", "e.png"]),
        ("valid", ["c.png", "d.png", "e.png"]),
        ("val.json", ["c.png", "d.png", "e.png"]),
        ("set/train.json", ["a.png", "b.png"]),
        ("set", ["a.png", "b.png", "c.png", "d.png", "e.png"]),
        ("shots", ["dark.jpg", "deep/other.png"]),
        ("shots/dark.jpg", ["dark.jpg"]),
        ("shots/*.jpg", ["dark.jpg"]),
        ("list.txt", ["shots/dark.jpg"]),
        ("voc", ["one.jpg", "three.jpg", "two.jpg"]),
        ("voc/ImageSets/Main/train.txt", ["one.jpg", "three.jpg", "two.jpg"]),
        ("yolo/data.yaml", ["images/train/one.png", "images/train/three.png", "images/train/two.png"]),
        ("yolo/images", ["train/one.png", "train/three.png", "train/two.png"]),
    ],
)
def test_others_are_parts_datasets_or_images(
    folder: Path, shots: Path, other: str, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shots.parent == folder.parent
    write_voc(folder.parent / "voc")
    write_yolo(folder.parent / "yolo")
    (folder.parent / "list.txt").write_text("shots/dark.jpg\n")
    monkeypatch.chdir(folder.parent)
    found = read_others(other, DatasetSource("set", "train"))
    assert found.title == other
    assert sorted(found.names) == names
    assert not found.unreadable
    assert found.prints.any(axis=1).all()


def test_a_part_comes_before_a_folder_of_its_name(folder: Path, shots: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shots.rename(folder.parent / "val")
    monkeypatch.chdir(folder.parent)
    assert len(read_others("val", DatasetSource("set")).names) == 3
    assert len(read_others("./val", DatasetSource("set")).names) == 2


def test_the_image_folder_of_the_dataset_counts_for_its_parts_alone(folder: Path) -> None:
    (folder / "images").rename(folder / "odd")
    source = DatasetSource(folder, images="odd")
    other = write_part(folder.parent / "other", "val", {"z.png": 7})
    for name, count in (("val", 3), ("val.json", 3), (str(other / "val.json"), 1), (str(other), 1)):
        found = read_others(name, source)
        assert (len(found.names), len(found.unreadable)) == (count, 0)


def test_annotations_of_the_others_need_not_be_good(folder: Path) -> None:
    content = json.loads((folder / "val.json").read_text())
    for annotation in content["annotations"]:
        annotation["bbox"] = [1, 2, 0, 0]
    (folder / "val.json").write_text(json.dumps(content))
    for source in (DatasetSource(folder, "train"), DatasetSource(folder.parent / "other")):
        assert read_others(folder / "val.json", source).names == ("c.png", "d.png", "e.png")
    assert read_others("val", DatasetSource(folder, "train")).names == ("c.png", "d.png", "e.png")


def test_undecodable_images_are_counted(folder: Path, shots: Path) -> None:
    for path in (shots / "deep" / "other.png", folder / "images" / "b.png"):
        path.write_bytes(b"nothing")
    train = ComparedImages.read(
        "train", ["a.png", "b.png"], [str(folder / "images" / name) for name in ("a.png", "b.png")]
    )
    found = compare_images(train, read_others(shots, DatasetSource(folder)))
    assert (found.pairs, found.unreadable, found.others_unreadable) == ((("a.png", "dark.jpg"),), 1, 1)
    (folder / "images" / "c.png").unlink()
    assert list(read_others("val", DatasetSource(folder)).unreadable) == [0]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("other", ["nothing", "no/thing.json", "shots/*.png", "empty", "broken", "broken/x.jpg"])
def test_nothing_to_compare_with_is_an_error(shots: Path, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("empty", "broken"):
        (shots.parent / name).mkdir()
    (shots.parent / "broken" / "x.jpg").write_bytes(b"nothing")
    monkeypatch.chdir(shots.parent)
    with pytest.raises(DataError, match=other.replace("*", r"\*")):
        read_others(other, DatasetSource("set"))


@pytest.mark.parametrize("name", ["broken.json", "broken.csv", "broken.yaml", "broken.txt"])
def test_a_broken_annotation_file_is_an_error(folder: Path, name: str) -> None:
    (folder / name).write_bytes(b"{\xff nothing")
    with pytest.raises(DetdistillError, match=name):
        read_others(folder / name, DatasetSource(folder))


def test_images_without_annotations_are_read(shots: Path, folder: Path) -> None:
    images = read_pictures(shots)
    assert images is not None
    assert images.names == ("dark.jpg", "deep/other.png")
    assert compare_images(images, read_others("train", DatasetSource(folder))).pairs == (("dark.jpg", "a.png"),)
    assert read_pictures(shots / "none") is None
    assert read_pictures(folder / "train.json") is None
    (shots / "notes").write_text("nothing")
    with pytest.raises(DataError, match="notes"):
        read_pictures(shots / "notes")
