from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.core.packed_texts import PackedTexts
from detdistill.data.opening import open_dataset
from detdistill.data.stored_images import ImagesByPath, ImagesOfSplits, file_digest
from support.small_runs import write_boxes


def images_of(**datasets: DetectionDataset) -> ImagesOfSplits:
    paths = [path for dataset in datasets.values() for path in dataset.images.paths]
    return ImagesOfSplits(
        PackedTexts.joined([dataset.images.file_names for dataset in datasets.values()]),
        np.concatenate([dataset.images.sizes for dataset in datasets.values()]).astype(np.int32),
        np.array([file_digest(Path(path)) for path in paths]),
        np.repeat(np.arange(len(datasets)), [len(dataset.images) for dataset in datasets.values()]),
        tuple(datasets),
    )


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[DetectionDataset, DetectionDataset]:
    """Images 0.png … 7.png for training, and others of the names 0.png … 3.png for validation."""
    data = write_boxes(tmp_path_factory.mktemp("data"))
    return open_dataset(data, "train"), open_dataset(data, "val")


def test_the_split_is_found_by_the_images_although_names_are_the_same(
    parts: tuple[DetectionDataset, DetectionDataset],
) -> None:
    train, val = parts
    both = images_of(train=train, val=val)
    assert both.rows_of(train).tolist() == list(range(8))
    assert both.rows_of(val).tolist() == [8, 9, 10, 11]
    some = replace(val, images=val.images.take([3, 1]))
    assert both.rows_of(some).tolist() == [11, 9]


def test_an_unfinished_split_is_not_replaced_by_another_one(parts: tuple[DetectionDataset, DetectionDataset]) -> None:
    train, val = parts
    half = replace(val, images=val.images.take([0, 2]))
    assert images_of(train=train, val=half).rows_of(val).tolist() == [8, -1, 9, -1]


def test_other_files_of_the_same_names_and_sizes_are_not_taken(
    parts: tuple[DetectionDataset, DetectionDataset],
) -> None:
    train, val = parts
    assert (images_of(train=train).rows_of(val) == -1).all()
    nothing = replace(train, images=train.images.take([]))
    assert (images_of(train=nothing).rows_of(val) == -1).all()


def test_a_moved_dataset_is_found(parts: tuple[DetectionDataset, DetectionDataset], tmp_path: Path) -> None:
    train, val = parts
    both = images_of(train=train, val=val)
    again = open_dataset(write_boxes(tmp_path / "elsewhere"), "val")
    assert both.rows_of(again).tolist() == [8, 9, 10, 11]


def test_images_of_another_size_are_refused_by_name(parts: tuple[DetectionDataset, DetectionDataset]) -> None:
    train, _ = parts
    images = images_of(train=train)
    sizes = images.sizes.copy()
    sizes[[2, 5]] = 32, 64
    with pytest.raises(DataError) as refused:
        replace(images, sizes=sizes).rows_of(train)
    assert [problem.where for problem in refused.value.problems] == ["image 2.png", "image 5.png"]
    assert "64x32" in refused.value.problems[0].what
    assert "64x64" in refused.value.problems[0].what


def test_paths_tell_images_of_one_dataset(parts: tuple[DetectionDataset, DetectionDataset]) -> None:
    train, val = parts
    images = ImagesByPath(train.images.paths)
    assert images.rows_of(train).tolist() == list(range(8))
    assert images.rows_of(replace(train, images=train.images.take([5, 2]))).tolist() == [5, 2]
    assert (images.rows_of(val) == -1).all()


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    for name, content in (("a", b"one"), ("b", b"one"), ("c", b"two")):
        (tmp_path / name).write_bytes(content)
    assert file_digest(tmp_path / "a") == file_digest(tmp_path / "b") != file_digest(tmp_path / "c")
    assert file_digest(tmp_path / "missing") is None
    assert file_digest(tmp_path) is None
