"""What comes from the cache is what the file says, or the file is read."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError
from detdistill.data import annotation_cache, coco_reader, open_dataset
from detdistill.data.annotation_cache import cache_folder
from detdistill.data.coco_file import CocoFile


@pytest.fixture(autouse=True)
def small_files_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(annotation_cache, "_SMALLEST", 0)


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were read, not taken from the cache."""
    files: list[Path] = []

    def read(file: Path, **options: Any) -> Any:
        files.append(file)
        return original(file, **options)

    original = CocoFile
    monkeypatch.setattr(coco_reader, "CocoFile", read)
    return files


def write(folder: Path, boxes: list[list[float]], *, ids: list[Any] | None = None, age: float = 60) -> Path:
    folder.mkdir(exist_ok=True)
    file = folder / "train.json"
    image_ids = ids or [1, "two"]
    content = {
        "images": [{"id": i, "file_name": f"ü{i}.jpg", "height": 50, "width": 60} for i in image_ids],
        "annotations": [{"id": n, "image_id": image_ids[0], "category_id": 7, "bbox": b} for n, b in enumerate(boxes)],
        "categories": [{"id": 7, "name": "cat"}],
    }
    file.write_text(json.dumps(content))
    past = file.stat().st_mtime_ns - int(age * 1e9)
    os.utime(file, ns=(past, past))
    return file


def opened(file: Path, **options: Any) -> DetectionDataset:
    return open_dataset(file, check_images=False, **options)


def entries(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "cache" / "annotations").glob("*"))


def test_a_second_start_reads_no_file_and_says_the_same(tmp_path: Path, readings: list[Path]) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4], [50, 40, 20, 20], [5, 5, 0, 0]])
    first, second = (opened(file, accept_left_out=True) for _ in range(2))
    assert readings == [file]
    assert len(first.problems) == 2
    assert first.problems == second.problems
    assert first.fingerprint == second.fingerprint
    assert (first.classes, first.category_ids, first.source) == (second.classes, second.category_ids, second.source)
    assert first.images.image_ids == second.images.image_ids == [1, "two"]
    assert list(first.images.paths) == list(second.images.paths)
    np.testing.assert_array_equal(first.images.areas, second.images.areas)
    assert second.images.boxes.base is not None  # mapped


@pytest.mark.parametrize("change", ["content", "touched", "replaced"])
def test_a_changed_file_is_read(change: str, tmp_path: Path, readings: list[Path]) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4]])
    opened(file)
    if change == "content":
        write(tmp_path / "data", [[1, 2, 3, 4], [5, 6, 7, 8]])
    elif change == "touched":
        os.utime(file, (1, 1))
    else:  # another file of the same size and time of change
        stat = file.stat()
        other = write(tmp_path / "other", [[1, 2, 3, 9]])
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.replace(file)
    again = opened(file)
    assert len(readings) == 2
    assert (
        again.images.boxes.tolist()
        == {
            "content": [[1, 2, 4, 6], [5, 6, 12, 14]],
            "touched": [[1, 2, 4, 6]],
            "replaced": [[1, 2, 4, 11]],
        }[change]
    )


def test_a_file_that_was_just_written_is_not_kept(tmp_path: Path) -> None:
    opened(write(tmp_path / "data", [[1, 2, 3, 4]], age=-60))
    assert entries(tmp_path) == []


def test_who_resumes_reads_the_file(tmp_path: Path, readings: list[Path]) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4]])
    opened(file)
    opened(file, use_cache=False)
    assert len(readings) == 2


@pytest.mark.parametrize("name", ["boxes.npy", "starts.npy", "meta.json", "id_texts_content.npy"])
@pytest.mark.parametrize("content", [None, b"", b"damaged"])
def test_a_damaged_entry_is_read_and_written_again(
    name: str, content: bytes | None, tmp_path: Path, readings: list[Path]
) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4]])
    expected = opened(file)
    (entry,) = entries(tmp_path)
    (entry / name).unlink()
    if content is not None:
        (entry / name).write_bytes(content)
    for _ in range(2):
        assert opened(file).fingerprint == expected.fingerprint
    assert len(readings) == 2


@pytest.mark.parametrize("name", ["boxes.npy", "labels.npy", "starts.npy", "sizes.npy", "file_names_starts.npy"])
def test_columns_of_different_entries_are_not_mixed(name: str, tmp_path: Path, readings: list[Path]) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4]])
    expected = opened(file)
    (entry,) = entries(tmp_path)
    opened(write(tmp_path / "other", [[1, 2, 3, 4]] * 3, ids=[1, "two", 3]))
    (foreign,) = set(entries(tmp_path)) - {entry}
    shutil.copy(foreign / name, entry / name)
    assert opened(file).fingerprint == expected.fingerprint
    assert len(readings) == 3


def test_what_was_not_used_for_longest_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [write(tmp_path / f"data{number}", [[1, 2, 3, 4]]) for number in range(3)]
    opened(files[0])
    (first,) = entries(tmp_path)
    opened(files[1])
    (second,) = set(entries(tmp_path)) - {first}
    os.utime(first, (1, 1))
    os.utime(second, (2, 2))
    opened(files[0])  # used: now the newest
    size = sum(file.stat().st_size for file in first.iterdir())
    monkeypatch.setattr(annotation_cache, "LIMIT", 2 * size)
    opened(files[2])
    assert first in entries(tmp_path)
    assert second not in entries(tmp_path)
    assert len(entries(tmp_path)) == 2


@pytest.mark.parametrize("value", ["off", "OFF", "0"])
def test_the_cache_can_be_switched_off(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETDISTILL_CACHE", value)
    assert cache_folder() is None


def test_the_usual_place_is_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETDISTILL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "detdistill" / "annotations"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "detdistill" / "annotations"


def test_without_a_place_to_write_the_file_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETDISTILL_CACHE", str(tmp_path / "file"))
    assert len(opened(write(tmp_path / "data", [[1, 2, 3, 4]])).images) == 2


def test_sizes_of_image_files_are_not_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4]], ids=[1])
    file.write_text(file.read_text().replace('"height": 50, "width": 60', '"license": 1'))
    os.utime(file, (1, 1))
    for size in ((60, 50), (80, 70)):  # the images were replaced by larger ones
        Image.new("RGB", size).save(tmp_path / "data" / "ü1.jpg")
        assert open_dataset(file).images.sizes.tolist() == [[size[1], size[0]]]
    assert entries(tmp_path) == []


def test_an_unusable_file_is_not_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "data", [[1, 2, 3, 4]])
    file.write_text(file.read_text().replace('"category_id": 7', '"category_id": 8'))
    os.utime(file, (1, 1))
    for _ in range(2):
        with pytest.raises(DataError, match="category_id 8"):
            opened(file)
    assert entries(tmp_path) == []
