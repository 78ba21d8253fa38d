from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save

from detdistill.core.errors import DataError, DetdistillError, SettingsError
from detdistill.core.image_options import ImageSize
from detdistill.core.packed_texts import PackedTexts
from detdistill.core.structures import TeacherBoxes
from detdistill.data.detections_folder import (
    FILE_NAME,
    DetectionsHeader,
    ImagesPart,
    read_detections,
    read_header,
    write_part,
)
from detdistill.data.stored_detections import BoxColumns
from detdistill.data.stored_images import ImagesOfSplits
from support.stored_boxes import CLASSES, assert_same_boxes, boxes_of, teacher_boxes

HEADER = DetectionsHeader(
    classes=CLASSES,
    floor=0.05,
    top_k=5,
    image_size=ImageSize(short_side=64, long_side=128),
    postprocessing={"iou_threshold": 0.6},
    teacher={"folder": "runs/teacher", "weights_sha256": "ab" * 32},
)


def part(names: list[str], found: list[TeacherBoxes], split: str = "train") -> ImagesPart:
    sizes = np.full((len(names), 2), 64, np.int32)
    return ImagesPart(split, PackedTexts.of(names), sizes, np.arange(len(names)), BoxColumns.of(found, 5))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = [boxes_of((1, 2, 3, 4, 0, 0.9), (0, 0, 64, 64, 2, 0.5)), boxes_of()]
    write_part(tmp_path / "boxes", HEADER, part(["a.png", "b.png"], found))
    return tmp_path / "boxes"


@settings(max_examples=20)
@given(
    st.lists(
        st.tuples(st.sampled_from(["train", "val"]), st.lists(teacher_boxes(), min_size=1, max_size=3)),
        min_size=1,
        max_size=3,
    ),
    st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=4),
)
def test_what_was_written_is_read_again(
    tmp_path_factory: pytest.TempPathFactory, parts: list[tuple[str, list[TeacherBoxes]]], stem: str
) -> None:
    folder = tmp_path_factory.mktemp("written") / "boxes"
    header, rows = HEADER, []
    for number, (split, found) in enumerate(parts):
        names = [f"{number} {stem} {place}" for place in range(len(found))]
        header = write_part(folder, header, part(names, found, split))
        rows += [(split, *pair) for pair in zip(names, found, strict=True)]
    assert read_header(folder) == header
    again = read_detections(folder, header)
    assert again.classes == CLASSES
    assert again.floor == HEADER.floor
    images = again.images
    assert isinstance(images, ImagesOfSplits)
    assert [(images.splits[place], name) for place, name in zip(images.split, images.names, strict=True)] == [
        row[:2] for row in rows
    ]
    for row, (_, _, expected) in enumerate(rows):
        assert_same_boxes(again.of(row), expected)


def test_the_file_of_boxes_is_named_by_its_content(folder: Path) -> None:
    entry = read_header(folder).parts[0]
    content = (folder / entry.file_name).read_bytes()
    assert hashlib.sha256(content).hexdigest() == entry.sha256
    assert sorted(path.name for path in folder.iterdir()) == [entry.file_name, FILE_NAME]


def changed(content: dict[str, Any], **changes: Any) -> bytes:
    return json.dumps({**content, **changes}).encode()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda _: b"", "JSON"),
        (lambda _: b'{"format": 1, "classes": ["a"', "JSON"),
        (lambda _: b"\xff\xfe", "JSON"),
        (lambda _: b"[" * 100_000, "JSON"),
        (lambda _: b"[]", "JSON object"),
        (lambda old: changed(old, format="1"), "format"),
        (lambda old: changed(old, format=True), "format"),
        (lambda old: changed(old, format=2), "newer version"),
        (lambda old: changed(old, classes=[]), "classes"),
        (lambda old: changed(old, classes=["a", "a"]), "classes"),
        (lambda old: changed(old, classes=["\ud800"]), "classes"),
        (lambda old: changed(old, classes=[str(number) for number in range(70_000)]), "classes"),
        (lambda old: changed(old, floor=1.5), "floor"),
        (lambda old: changed(old, floor=None), "floor"),
        (lambda old: changed(old, top_k=2**70), "top_k"),
        (lambda old: changed(old, teacher="me"), "teacher"),
        (lambda old: changed(old, image_size={"short_side": 10**9}), "image_size.short_side"),
        (lambda old: changed(old, parts=[{"split": "a", "images": 1, "sha256": "../../etc/passwd"}]), "sha256"),
        (lambda old: changed(old, parts=[{"split": "a", "images": -1, "sha256": "a" * 64}]), "images"),
        (lambda old: changed(old, more=1), "more"),
    ],
)
def test_a_damaged_header_is_refused_by_file_and_field(
    folder: Path, change: Callable[[dict[str, Any]], bytes], named: str
) -> None:
    file = folder / FILE_NAME
    file.write_bytes(change(json.loads(file.read_text())))
    with pytest.raises(DetdistillError) as refused:
        read_header(folder)
    assert str(file) in str(refused.value)
    assert named in str(refused.value)


def test_a_header_that_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).mkdir()
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DetdistillError, match=r"detections\.json cannot be read"):
            read_header(folder)


@pytest.mark.parametrize("damage", ["missing", "cut", "folder", "no safetensors"])
def test_a_damaged_file_of_boxes_is_named(folder: Path, damage: str) -> None:
    header = read_header(folder)
    file = folder / header.parts[0].file_name
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[:-1])
    elif damage == "folder":
        file.mkdir()
    elif damage == "no safetensors":
        content = b"\xff" * 100
        entry = replace(header.parts[0], sha256=hashlib.sha256(content).hexdigest())
        header, file = replace(header, parts=(entry,)), folder / entry.file_name
        file.write_bytes(content)
    with pytest.raises(DetdistillError) as refused:
        read_detections(folder, header)
    assert str(file) in str(refused.value)


ARRAYS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "offsets": lambda old: old.flip(0),
    "offsets ": lambda old: old + 1,
    "offsets  ": lambda old: old.to(torch.int32),
    "boxes": lambda old: old + 100,
    "boxes ": lambda old: old * torch.nan,
    "boxes  ": lambda old: old.flip(1),
    "boxes   ": lambda old: old.to(torch.bfloat16),
    "boxes    ": lambda old: old.reshape(-1),
    "labels": lambda old: old + 3,
    "labels ": lambda old: old - 3,
    "labels  ": lambda old: old[:0],
    "labels   ": lambda old: old[:, :0],
    "probabilities": lambda old: old * 2,
    "probabilities ": lambda old: old * torch.nan,
    "probabilities  ": lambda old: torch.cat((old, old), dim=1),
    "sizes": lambda old: old * 0,
    "sizes ": lambda old: old[:1],
    "digests": lambda old: old[:, None],
    "names": lambda old: old * 0 + 255,
    "names ": lambda old: old[0],
    "name_starts": lambda old: old.flip(0),
    "name_starts ": lambda old: old[:0],
}


@pytest.mark.parametrize("key", ARRAYS)
def test_an_array_out_of_form_or_range_is_named(folder: Path, key: str) -> None:
    """Also where the hash is right: whoever writes the folder can write any hash."""
    header, name = read_header(folder), key.strip()
    tensors = load_file(folder / header.parts[0].file_name)
    content = save({**tensors, name: ARRAYS[key](tensors[name]).contiguous()})
    entry = replace(header.parts[0], sha256=hashlib.sha256(content).hexdigest())
    (folder / entry.file_name).write_bytes(content)
    with pytest.raises(DataError) as refused:
        read_detections(folder, replace(header, parts=(entry,)))
    assert f"{folder / entry.file_name}: " in str(refused.value)
    assert str(refused.value).partition(".safetensors: ")[2].startswith(name)


@pytest.mark.parametrize("name", sorted({key.strip() for key in ARRAYS}))
def test_a_missing_array_is_named(folder: Path, name: str) -> None:
    header = read_header(folder)
    tensors = load_file(folder / header.parts[0].file_name)
    content = save({key: tensor for key, tensor in tensors.items() if key != name})
    entry = replace(header.parts[0], sha256=hashlib.sha256(content).hexdigest())
    (folder / entry.file_name).write_bytes(content)
    with pytest.raises(DataError, match=rf"{name} is missing"):
        read_detections(folder, replace(header, parts=(entry,)))


def test_an_image_that_stands_twice_in_a_split_is_refused(folder: Path) -> None:
    header = write_part(folder, read_header(folder), part(["b.png"], [boxes_of()], "val"))
    assert len(read_detections(folder, header).images) == 3
    header = write_part(folder, header, part(["b.png"], [boxes_of((0, 0, 1, 1, 0, 1))]))
    with pytest.raises(DataError, match=r"b\.png .*train"):
        read_detections(folder, header)


def test_a_folder_without_files_of_boxes_is_refused(folder: Path) -> None:
    with pytest.raises(DetdistillError, match="parts"):
        read_detections(folder, HEADER)


def test_a_crash_between_the_two_files_changes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read_header(folder)

    def fail(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("detdistill.data.detections_folder.write_json", fail)
    with pytest.raises(KeyboardInterrupt):
        write_part(folder, before, part(["c.png"], [boxes_of()]))
    assert read_header(folder) == before
    assert len(read_detections(folder, before).images) == 2


def test_settings_are_refused_by_name_when_a_header_is_made() -> None:
    with pytest.raises(SettingsError, match="floor"):
        replace(HEADER, floor=2.0)
