from __future__ import annotations

import json
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from detdistill.core.errors import DetdistillError
from detdistill.core.rle import box_of
from detdistill.data import scenes
from detdistill.data.scenes import CLASSES, LEAST_CONTRAST, draw_scene, split_material, write_scenes

SPLITS = ("train", "val", "test")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "out"
    write_scenes(out, seed=3, train=60, val=10, test=10)
    return out


def read_coco(folder: Path, split: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((folder / f"{split}.json").read_text())
    return loaded


def test_splits_share_no_digit_and_no_region() -> None:
    materials = [split_material(split) for split in SPLITS]
    assert sum(len(material.labels) for material in materials) == 1797
    for one, other in combinations(materials, 2):
        assert not {digit.tobytes() for digit in one.digits} & {digit.tobytes() for digit in other.digits}
    for number in range(2):
        parts = [material.photographs[number] for material in materials]
        # Side by side they are the photograph again: nothing is in two of them.
        assert sum(part.shape[1] for part in parts) == 640
        from sklearn.datasets import load_sample_images

        assert np.array_equal(np.concatenate(parts, axis=1), load_sample_images().images[number])


@pytest.mark.parametrize("split", SPLITS)
def test_every_split_has_every_digit_about_equally_often(split: str) -> None:
    counts = np.bincount(split_material(split).labels, minlength=10)
    assert counts.min() > 0.9 * counts.mean()


def test_the_folder_is_ordinary_coco(folder: Path) -> None:
    for split, count in zip(SPLITS, (60, 10, 10), strict=True):
        coco = read_coco(folder, split)
        assert [category["name"] for category in coco["categories"]] == list(CLASSES)
        assert len(coco["images"]) == count
        assert len({annotation["id"] for annotation in coco["annotations"]}) == len(coco["annotations"])
        assert {annotation["image_id"] for annotation in coco["annotations"]} <= set(range(1, count + 1))
        for image in coco["images"]:
            with Image.open(folder / "images" / image["file_name"]) as picture:
                assert picture.size == (image["width"], image["height"]) == (128, 128)
        for annotation in coco["annotations"]:
            x, y, width, height = annotation["bbox"]
            assert x >= 0
            assert y >= 0
            assert x + width <= 128
            assert y + height <= 128
            assert 3 <= width <= 64
            assert 9 <= height <= 66


def test_masks_are_the_ink_that_is_seen(folder: Path) -> None:
    coco = read_coco(folder, "train")
    seen: dict[int, np.ndarray] = {}
    shares = []
    for annotation in coco["annotations"]:
        x, y, width, height = annotation["bbox"]
        assert annotation["area"] == width * height
        mask = annotation["segmentation"]
        bitmap = reference.decode(mask)
        left, top, right, bottom = box_of(mask["counts"], (128, 128))
        assert x <= left
        assert y <= top
        assert right <= x + width
        assert bottom <= y + height
        shares.append((right - left) * (bottom - top) / (width * height))
        # No pixel belongs to two digits.
        assert not (bitmap & seen.setdefault(annotation["image_id"], np.zeros_like(bitmap))).any()
        seen[annotation["image_id"]] |= bitmap
    # Most digits are whole, and their masks then fill their boxes from side to side.
    assert np.mean(np.array(shares) == 1) > 0.6


def test_a_mask_is_where_the_digit_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "MOST_OBJECTS", 1)
    monkeypatch.setattr(scenes, "MOST_STROKES", 0)
    monkeypatch.setattr(scenes, "EMPTY_SHARE", 0.0)
    material = split_material("test")
    plain = scenes.Material(material.digits, material.labels, (np.full((128, 128, 3), 120, np.uint8),))
    for seed in range(5):
        scene = draw_scene(plain, 128, np.random.default_rng(seed))
        ((x, y, _, _),), (mask,) = scene.boxes, scene.masks
        background = scene.image[0 if y > 0 else -1, 0 if x > 0 else -1].astype(float)
        change = np.abs((scene.image - background) @ [0.299, 0.587, 0.114])
        assert change[mask].min() > 0.45 * change.max()
        assert change[~mask].max() < 0.55 * change.max()


def test_scenes_vary(folder: Path) -> None:
    coco = read_coco(folder, "train")
    counts = np.bincount([annotation["image_id"] for annotation in coco["annotations"]], minlength=61)[1:]
    heights = np.array([annotation["bbox"][3] for annotation in coco["annotations"]])
    assert counts.min() == 0
    assert counts.max() >= 6
    assert heights.min() < 16
    assert heights.max() > 48
    assert len({annotation["category_id"] for annotation in coco["annotations"]}) == 10


def test_same_seed_same_bytes_and_another_seed_other_pictures(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "again", seed=3, train=60, val=10, test=10)
    assert files(tmp_path / "again") == files(folder)
    write_scenes(tmp_path / "other", seed=4, train=1, val=1, test=1)
    name = "images/train_00000.jpg"
    assert files(tmp_path / "other")[name] != files(folder)[name]


def test_a_picture_does_not_depend_on_how_many_there_are(folder: Path, tmp_path: Path) -> None:
    write_scenes(tmp_path / "few", seed=3, train=2, val=1, test=1)
    few, many = files(tmp_path / "few"), files(folder)
    assert all(few[name] == many[name] for name in few if name.startswith("images"))


def test_a_lone_digit_is_boxed_tightly_and_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without strokes and neighbours, on one grey: the picture shows the digit and nothing else.
    monkeypatch.setattr(scenes, "MOST_OBJECTS", 1)
    monkeypatch.setattr(scenes, "MOST_STROKES", 0)
    monkeypatch.setattr(scenes, "EMPTY_SHARE", 0.0)
    material = split_material("test")
    plain = scenes.Material(material.digits, material.labels, (np.full((128, 128, 3), 120, np.uint8),))
    for seed in range(40):
        scene = draw_scene(plain, 128, np.random.default_rng(seed))
        ((x, y, width, height),) = scene.boxes
        background = scene.image[0 if y > 0 else -1, 0 if x > 0 else -1].astype(float)
        brightness = np.abs((scene.image - background) @ [0.299, 0.587, 0.114])
        rows, columns = np.nonzero(brightness > brightness.max() / 2)
        assert brightness.max() > min(LEAST_CONTRAST, 120) - 10
        found = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
        assert np.abs(np.array(found) - (x, y, x + width, y + height)).max() <= 1


def test_an_existing_folder_is_left_alone(folder: Path) -> None:
    before = files(folder)
    with pytest.raises(DetdistillError, match="exists already"):
        write_scenes(folder, train=1, val=1, test=1)
    assert files(folder) == before


def test_a_half_written_folder_is_never_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> scenes.Scene:
        raise KeyboardInterrupt

    monkeypatch.setattr(scenes, "draw_scene", fails)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(tmp_path / "out", train=1, val=1, test=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [{"size": 32}, {"val": 0}])
def test_numbers_too_small_are_refused(tmp_path: Path, arguments: dict[str, int]) -> None:
    with pytest.raises(DetdistillError, match="at least"):
        write_scenes(tmp_path / "out", **arguments)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DetdistillError, match="cannot be written"):
        write_scenes(tmp_path / "file" / "out", train=1, val=1, test=1)


def test_without_scikit_learn_the_way_out_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(DetdistillError, match=r"pip install 'detdistill\[scenes\]'"):
        split_material("train")
