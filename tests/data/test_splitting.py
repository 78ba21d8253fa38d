from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from detdistill.core.annotations import DetectionDataset, ImageRecord, ImageTable
from detdistill.core.errors import DataError
from detdistill.data import open_dataset
from detdistill.data.splitting import DatasetSplit, split_dataset


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
    return DetectionDataset("test", ("cat", "dog", "rare"), (3, 5, 8), ImageTable.of(records))


def names(part: DetectionDataset) -> set[str]:
    return {image.file_name for image in part.images}


def names_by_part(split: DatasetSplit) -> dict[str, set[str]]:
    return {part: names(dataset) for part, dataset in split.parts.items()}


def test_the_shares_are_kept_and_nothing_is_lost(dataset: DetectionDataset) -> None:
    for val, test, sizes in (
        (0.2, 0.0, {"train": 16, "val": 4}),
        (0.01, 0.0, {"train": 19, "val": 1}),
        (0.99, 0.0, {"train": 1, "val": 19}),
        (0.2, 0.3, {"train": 10, "val": 4, "test": 6}),
        (0.0, 0.3, {"train": 14, "test": 6}),
        (0.5, 0.49, {"train": 1, "val": 10, "test": 9}),
        (0.98, 0.01, {"train": 1, "val": 18, "test": 1}),
    ):
        split = split_dataset(dataset, val=val, test=test, seed=0)
        assert {name: len(part.images) for name, part in split.parts.items()} == sizes
        assert list(split.parts) == [name for name in ("train", "val", "test") if name in sizes]
        assert set().union(*names_by_part(split).values()) == names(dataset)
        assert split.duplicates == ()


def test_a_split_is_a_function_of_names_and_seed(dataset: DetectionDataset) -> None:
    first = names_by_part(split_dataset(dataset, val=0.3, test=0.2, seed=0))
    turned = DetectionDataset(dataset.source, dataset.classes, dataset.category_ids, dataset.images[::-1])
    assert names_by_part(split_dataset(turned, val=0.3, test=0.2, seed=0)) == first
    assert names_by_part(split_dataset(dataset, val=0.3, test=0.2, seed=1)) != first


def test_more_images_move_few(dataset: DetectionDataset) -> None:
    fewer = DetectionDataset(dataset.source, dataset.classes, dataset.category_ids, dataset.images[:18])
    before, after = (names(split_dataset(data, val=0.5, seed=0).parts["val"]) for data in (fewer, dataset))
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
    data = DetectionDataset("test", dataset.classes, dataset.category_ids, ImageTable.of([*dataset.images, *copies]))
    split = split_dataset(data, val=0.3, test=0.3, seed=0)
    groups = [{f"{number:02d}.png", f"smaller_{number}.jpg", f"darker_{number}.jpg"} for number in range(8)]
    assert sorted(map(sorted, split.duplicates)) == sorted(map(sorted, groups))
    parts = names_by_part(split)
    for group in groups:
        assert sum(group <= part for part in parts.values()) == 1
    for part in parts.values():
        assert any(group <= part for group in groups)


def test_a_class_of_one_image_is_trained_on_and_absent_elsewhere(dataset: DetectionDataset) -> None:
    for seed in range(5):
        split = split_dataset(dataset, val=0.5, test=0.3, seed=seed)
        assert split.absent_classes == {"train": (), "val": ("rare",), "test": ("rare",)}


def test_a_class_of_three_images_is_in_all_three_parts(dataset: DetectionDataset) -> None:
    images = tuple(
        record(image.path, 100 + number, [2] if number in (4, 11, 17) else [0])
        for number, image in enumerate(dataset.images)
    )
    data = DetectionDataset("test", dataset.classes, dataset.category_ids, ImageTable.of(images))
    for seed in range(5):
        split = split_dataset(data, val=0.2, test=0.2, seed=seed)
        assert split.absent_classes == {"train": (), "val": (), "test": ()}
        assert [len(part.images) for part in split.parts.values()] == [12, 4, 4]


def test_images_that_are_all_alike_cannot_be_split(tmp_path: Path) -> None:
    records = []
    for number in range(4):
        photograph(0).save(tmp_path / f"{number}.png")
        records.append(record(tmp_path / f"{number}.png", number, []))
    data = DetectionDataset("four alike", (), (), ImageTable.of(records))
    with pytest.raises(DataError, match="four alike"):
        split_dataset(data, val=0.5, seed=0)


def test_too_few_images_for_three_parts_are_refused(dataset: DetectionDataset) -> None:
    two = DetectionDataset("two", dataset.classes, dataset.category_ids, dataset.images[:2])
    with pytest.raises(DataError, match="val"):
        split_dataset(two, val=0.4, test=0.4, seed=0)
    three = DetectionDataset("three", dataset.classes, dataset.category_ids, dataset.images[:3])
    split = split_dataset(three, val=0.4, test=0.4, seed=0)
    assert [len(part.images) for part in split.parts.values()] == [1, 1, 1]


@pytest.mark.parametrize(
    ("val", "test"), [(0.0, 0.0), (1.0, 0.0), (-0.5, 0.0), (float("nan"), 0.0), (0.5, 0.5), (0.5, -0.1), (0.1, 1.0)]
)
def test_shares_out_of_range_are_refused(dataset: DetectionDataset, val: float, test: float) -> None:
    with pytest.raises(DataError, match="test"):
        split_dataset(dataset, val=val, test=test, seed=0)


def test_all_undecodable_images_are_listed(dataset: DetectionDataset) -> None:
    for number in (3, 7):
        dataset.images[number].path.write_bytes(b"nothing")
    with pytest.raises(DataError, match="2 images cannot be decoded") as error:
        split_dataset(dataset, val=0.5, seed=0)
    assert [problem.where for problem in error.value.problems] == ["03.png", "07.png"]


def test_plain_images_of_different_brightness_can_be_split(tmp_path: Path) -> None:
    records = []
    for number in range(4):
        Image.new("RGB", (64, 48), (50 * number,) * 3).save(tmp_path / f"{number}.png")
        records.append(record(tmp_path / f"{number}.png", number, []))
    data = DetectionDataset("four plain ones", (), (), ImageTable.of(records))
    split = split_dataset(data, val=0.5, seed=0)
    assert [len(part.images) for part in split.parts.values()] == [2, 2]
    assert split.duplicates == ()


def test_real_photographs_with_known_duplicates(photographs: Path) -> None:
    # Its README: 18 images in 9 groups by a 256-bit difference hash and a distance of 20; none lies across the parts.
    for part, groups in (("train", 5), ("val", 4)):
        data = open_dataset(photographs / "facemask", part)
        assert len(split_dataset(data, val=0.2, seed=0).duplicates) == groups


def test_real_photographs_in_three_parts(photographs: Path) -> None:
    whole = open_dataset(photographs / "bccd_voc", "val")
    data = replace(whole, images=whole.images[:50])
    split = split_dataset(data, val=0.2, test=0.2, seed=3)
    parts = names_by_part(split)
    assert {name: len(part) for name, part in parts.items()} == {"train": 30, "val": 10, "test": 10}
    assert set().union(*parts.values()) == names(data)
    assert names_by_part(split_dataset(data, val=0.2, test=0.2, seed=3)) == parts
    assert split.absent_classes == {"train": (), "val": (), "test": ()}
    for group in split.duplicates:
        assert sum(set(group) <= part for part in parts.values()) == 1
