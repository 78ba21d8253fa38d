"""Images are opened again when something about them has changed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DataError
from detdistill.data import image_sizes, size_cache
from detdistill.data.image_sizes import check_sizes


@pytest.fixture(autouse=True)
def few_images_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(size_cache, "_MANY", 1)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The images that were opened."""
    paths: list[str] = []
    original = image_sizes.header_sizes

    def header_sizes(path: str) -> object:
        paths.append(Path(path).name)
        return original(path)

    monkeypatch.setattr(image_sizes, "header_sizes", header_sizes)
    return paths


def dataset(folder: Path, *, age: float = 60) -> DetectionDataset:
    names = ["a.png", "b.png"]
    for name in names:
        save(folder / name, (40, 30), age)
    paths = [str(folder / name) for name in names]
    return DetectionDataset("x", ("c",), (1,), ImageTable.without_objects([1, 2], names, paths, [(30, 40)] * 2))


def save(file: Path, size: tuple[int, int], age: float = 60) -> None:
    Image.new("RGB", size).save(file)
    past = file.stat().st_mtime - age
    os.utime(file, (past, past))


def test_unchanged_images_are_opened_once(tmp_path: Path, opened: list[str]) -> None:
    data = dataset(tmp_path)
    for _ in range(2):
        check_sizes(data, rescale=False)
    assert opened == ["a.png", "b.png"]
    check_sizes(data, rescale=False, use_cache=False)
    assert len(opened) == 4


def test_a_changed_image_is_found(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    check_sizes(data, rescale=False)
    save(tmp_path / "b.png", (50, 30), age=30)
    with pytest.raises(DataError, match="50x30"):
        check_sizes(data, rescale=False)


def test_other_annotated_sizes_are_checked(tmp_path: Path) -> None:
    data = dataset(tmp_path)
    check_sizes(data, rescale=False)
    other = replace(data, images=replace(data.images, sizes=np.array([[30, 40], [31, 40]])))
    with pytest.raises(DataError, match="40x31"):
        check_sizes(other, rescale=False)


def test_what_had_a_problem_is_opened_again(tmp_path: Path, opened: list[str]) -> None:
    data = dataset(tmp_path)
    save(tmp_path / "b.png", (80, 60))
    for _ in range(2):
        assert check_sizes(data, rescale=True).images.sizes.tolist() == [[30, 40], [60, 80]]
    assert len(opened) == 4


@pytest.mark.parametrize("missing", [True, False])
def test_missing_and_new_images_are_not_kept(missing: bool, tmp_path: Path, opened: list[str]) -> None:
    data = dataset(tmp_path, age=60 if missing else -60)
    if missing:
        (tmp_path / "a.png").unlink()
        for _ in range(2):
            with pytest.raises(DataError, match=r"a\.png"):
                check_sizes(data, rescale=False)
    else:
        for _ in range(2):
            check_sizes(data, rescale=False)
    assert len(opened) == 4
