from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from detdistill.annotations import DetectionDataset, ImageRecord
from detdistill.data import open_dataset
from detdistill.data.splitting import difference_hash, near_duplicates, split_dataset, write_split
from detdistill.errors import DataError, DetdistillError
from detdistill.images import read_image


def record(path: Path, image_id: int | str, labels: list[int], width: int = 64, height: int = 48) -> ImageRecord:
    count = len(labels)
    return ImageRecord(
        image_id=image_id,
        path=path,
        file_name=path.name,
        width=width,
        height=height,
        boxes=np.tile([5.0, 10.25, 45.0, 35.0], (count, 1)),
        labels=np.array(labels, np.int64),
        areas=np.full(count, 321.5),
        crowd=np.arange(count) == 1,
        difficult=np.arange(count) == 0,
    )


def photograph(seed: int) -> Image.Image:
    """Smooth random shapes: like a photograph, and unlike noise, it survives shrinking."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC)


@pytest.fixture
def dataset(tmp_path: Path) -> DetectionDataset:
    """Twenty different images, ids 100 to 119; class 2 in one of them only."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    records = []
    for number in range(20):
        path = folder / f"{number:02d}.png"
        photograph(number).save(path)
        records.append(record(path, 100 + number, [0, 1] if number else [2]))
    return DetectionDataset("test", ("cat", "dog", "rare"), (3, 5, 8), tuple(records))


def names(part: DetectionDataset) -> set[str]:
    return {image.file_name for image in part.images}


def test_the_share_is_kept_and_nothing_is_lost(dataset: DetectionDataset) -> None:
    for val, expected in ((0.2, 4), (0.5, 10), (0.01, 1), (0.99, 19)):
        split = split_dataset(dataset, val=val, seed=0)
        assert len(split.val.images) == expected
        assert names(split.train) | names(split.val) == names(dataset)
        assert not names(split.train) & names(split.val)
        assert split.duplicates == ()


def test_a_split_is_a_function_of_names_and_seed(dataset: DetectionDataset) -> None:
    first = split_dataset(dataset, val=0.3, seed=0)
    turned = DetectionDataset(dataset.source, dataset.classes, dataset.category_ids, dataset.images[::-1])
    assert names(split_dataset(turned, val=0.3, seed=0).val) == names(first.val)
    assert names(split_dataset(dataset, val=0.3, seed=1).val) != names(first.val)


def test_more_images_move_few(dataset: DetectionDataset) -> None:
    fewer = DetectionDataset(dataset.source, dataset.classes, dataset.category_ids, dataset.images[:18])
    before, after = (names(split_dataset(data, val=0.5, seed=0).val) for data in (fewer, dataset))
    assert len(before & after) >= 7  # of 9: two images came, so at most two others left


def test_near_duplicates_stay_together(dataset: DetectionDataset) -> None:
    folder = dataset.images[0].path.parent
    copies: list[ImageRecord] = []
    for number in range(8):
        original = photograph(number)
        for kind, copy in (
            ("smaller", original.resize((48, 36))),
            ("darker", ImageEnhance.Brightness(original).enhance(0.7)),
        ):
            path = folder / f"{kind}_{number}.jpg"
            copy.save(path, quality=60)
            copies.append(record(path, 1000 + len(copies), [0], *copy.size))
    data = DetectionDataset("test", dataset.classes, dataset.category_ids, dataset.images + tuple(copies))
    split = split_dataset(data, val=0.4, seed=0)
    groups = [{f"{number:02d}.png", f"smaller_{number}.jpg", f"darker_{number}.jpg"} for number in range(8)]
    assert sorted(map(sorted, split.duplicates)) == sorted(map(sorted, groups))
    for group in groups:
        assert group <= names(split.train) or group <= names(split.val)
    assert any(group <= names(split.val) for group in groups)


def test_classes_on_one_side_are_named(dataset: DetectionDataset) -> None:
    assert split_dataset(dataset, val=0.5, seed=0).one_sided_classes == ("rare",)


def test_images_that_are_all_alike_cannot_be_split(tmp_path: Path) -> None:
    records = []
    for number in range(4):
        photograph(0).save(tmp_path / f"{number}.png")
        records.append(record(tmp_path / f"{number}.png", number, []))
    with pytest.raises(DataError, match="4 images fall into 1 group"):
        split_dataset(DetectionDataset("test", (), (), tuple(records)), val=0.5, seed=0)


@pytest.mark.parametrize("val", [0.0, 1.0, -0.5, float("nan")])
def test_a_share_that_is_none_is_refused(dataset: DetectionDataset, val: float) -> None:
    with pytest.raises(DataError, match="between 0 and 1"):
        split_dataset(dataset, val=val, seed=0)


def test_all_undecodable_images_are_listed(dataset: DetectionDataset) -> None:
    for number in (3, 7):
        dataset.images[number].path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="2 images cannot be decoded") as error:
        split_dataset(dataset, val=0.5, seed=0)
    assert [problem.where for problem in error.value.problems] == ["03.png", "07.png"]


def test_what_is_written_reads_as_the_same_data(dataset: DetectionDataset, tmp_path: Path) -> None:
    split = split_dataset(dataset, val=0.3, seed=0)
    write_split(split, tmp_path / "out")
    for name, part in (("train", split.train), ("val", split.val)):
        read = open_dataset(tmp_path / "out", name)
        assert read.classes == part.classes
        assert read.category_ids == part.category_ids
        assert read.problems == ()
        for one, other in zip(read.images, part.images, strict=True):
            assert (one.image_id, one.file_name) == (other.image_id, other.file_name)
            assert (one.width, one.height) == (other.width, other.height)
            for field in ("boxes", "labels", "areas", "crowd", "difficult"):
                assert np.array_equal(getattr(one, field), getattr(other, field)), field
            assert np.array_equal(read_image(one.path), read_image(other.path))


def test_images_without_numbers_are_numbered_over_both_parts(tmp_path: Path) -> None:
    records = []
    for year in ("2007", "2012"):
        (tmp_path / year).mkdir()
        for number in range(3):
            path = tmp_path / year / f"{number}.png"
            photograph(int(year) + number).save(path)
            records.append(record(path, f"{year}/{number}", [0]))
    split = split_dataset(DetectionDataset("voc", ("a",), (1,), tuple(records)), val=0.5, seed=0)
    write_split(split, tmp_path / "out")
    images = [
        image
        for name in ("train", "val")
        for image in json.loads((tmp_path / f"out/{name}.json").read_text())["images"]
    ]
    assert sorted(image["id"] for image in images) == [1, 2, 3, 4, 5, 6]
    assert {image["file_name"] for image in images} == {
        f"{year}/{n}.png" for year in ("2007", "2012") for n in range(3)
    }
    assert all((tmp_path / "out" / "images" / image["file_name"]).is_file() for image in images)


def test_a_file_under_two_ids_keeps_both(dataset: DetectionDataset, tmp_path: Path) -> None:
    again = record(dataset.images[1].path, 999, [2])
    split = split_dataset(replace(dataset, images=(*dataset.images, again)), val=0.3, seed=0)
    write_split(split, tmp_path / "out")
    images = [image for name in ("train", "val") for image in open_dataset(tmp_path / "out", name).images]
    labels = {image.image_id: image.labels.tolist() for image in images if image.file_name == again.file_name}
    assert labels == {101: [0, 1], 999: [2]}


def test_an_existing_folder_is_left_alone(dataset: DetectionDataset, tmp_path: Path) -> None:
    split = split_dataset(dataset, val=0.3, seed=0)
    (tmp_path / "out").mkdir()
    with pytest.raises(DetdistillError, match="exists already"):
        write_split(split, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def linked(hashes: NDArray[np.bool_], near: int) -> list[list[int]]:
    """Single linkage the plain way: every pair is looked at until nothing changes."""
    groups = [{index} for index in range(len(hashes))]
    for one, other in combinations(range(len(hashes)), 2):
        if (hashes[one] != hashes[other]).sum() <= near:
            first, second = (next(group for group in groups if index in group) for index in (one, other))
            if first is not second:
                groups.remove(second)
                first |= second
    return sorted(sorted(group) for group in groups)


@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 40),
    originals=st.integers(1, 10),
    noise=st.floats(0, 0.2),
    plain=st.floats(0, 1),
    near=st.integers(0, 12),
)
def test_groups_are_those_of_the_plain_way(
    seed: int, count: int, originals: int, noise: float, plain: float, near: int
) -> None:
    rng = np.random.default_rng(seed)
    some = (rng.random((originals, 64)) < 0.5) & (rng.random(64) > plain)
    hashes = some[rng.integers(originals, size=count)] ^ (rng.random((count, 64)) < noise)
    groups = near_duplicates(hashes, near)
    assert sorted(groups) == linked(hashes, near)
    assert all(group == sorted(group) for group in groups)


def test_groups_larger_than_one_block_are_found() -> None:
    rng = np.random.default_rng(0)
    cameras = np.repeat(rng.random((3, 256)) < 0.5, 400, axis=0)
    hashes = cameras ^ (rng.random(cameras.shape) < 0.02)
    order = rng.permutation(len(hashes))
    groups = near_duplicates(hashes[order])
    assert sorted(sorted(order[group].tolist()) for group in groups) == [
        list(range(start, start + 400)) for start in (0, 400, 800)
    ]


def test_a_hash_says_which_pixels_are_darker_than_their_right_neighbour() -> None:
    ramp = np.broadcast_to(np.arange(0, 255, 3, dtype=np.uint8)[None, :, None], (32, 85, 3))
    assert difference_hash(np.ascontiguousarray(ramp)).all()
    assert not difference_hash(np.ascontiguousarray(ramp[:, ::-1])).any()
    assert not difference_hash(np.full((5, 7, 3), 80, np.uint8)).any()


def test_real_photographs_with_known_duplicates(photographs: Path) -> None:
    # Its README: 18 images in 9 groups by a 256-bit difference hash and a distance of 20; none lies across the parts.
    for part, groups in (("train", 5), ("val", 4)):
        data = open_dataset(photographs / "facemask", part)
        assert len(split_dataset(data, val=0.2, seed=0).duplicates) == groups
