"""Data sets damaged in every way: whatever happens is a `DetdistillError`, and it happens soon."""

from __future__ import annotations

import copy
import json
import os
import re
import tempfile
import warnings
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detdistill.core.errors import DetdistillError
from detdistill.core.images import read_image
from detdistill.data import open_dataset
from support.small_datasets import BOMB, SIZES, WRITERS, write_coco

JUNK: list[Any] = [
    None, True, -1, 0, 1, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", "a", "\ud800", "\0",
    "../one.png", "/etc/passwd", "x" * 5000, [], [[]], {}, [None] * 4, [1, 2, 3], {"id": 1}, [0, 0, 1e300, 1e300],
]  # fmt: skip
WORDS = [
    "", "nan", "inf", "-1", "1e400", "9" * 6000, "0x10", "a b", "é\u2028", "../../etc/passwd", "/etc/passwd", "[", "{",
    "&a;", "*x", "&x [*x]", "!!python/object:os.system", "<a>", "]]>", "train", "- " * 300, "[" * 3000, "\ufeff", "'",
]  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) in a JSON value."""
    if isinstance(value, dict):
        keys: list[Any] = list(value)
    elif isinstance(value, list):
        keys = list(range(len(value)))
    else:
        return []
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def damage_json(text: str, random: Random) -> bytes:
    content = json.loads(text)
    for _ in range(random.randint(1, 3)):
        found = places(content)
        if not found:
            break
        container, key = random.choice(found)
        if random.random() < 0.3:
            del container[key]
        elif isinstance(container, dict) and random.random() < 0.2:
            container["\udfff" if random.random() < 0.5 else "id"] = container.pop(key)
        else:
            container[key] = copy.deepcopy(random.choice([*JUNK, random.choice(found)[0]]))
    return json.dumps(content).encode()


def damage_text(text: str, random: Random) -> bytes:
    """Replaces a few words of XML, YAML or a list."""
    parts = re.split(r"([<>\s:]+)", text)
    for _ in range(random.randint(1, 3)):
        parts[random.randrange(len(parts))] = random.choice(WORDS)
    if random.random() < 0.05:
        parts.insert(0, BOMB)
    return "".join(parts).encode()


def damage_bytes(content: bytes, random: Random) -> bytes:
    position = random.randrange(len(content) + 1)
    match random.randrange(5):
        case 0:
            return content[:position]
        case 1:
            changed = bytearray(content or b"\0")
            # Half of the flips go to the start, where the headers are.
            end = len(changed) if random.random() < 0.5 else min(64, len(changed))
            for _ in range(random.randint(1, 8)):
                changed[random.randrange(end)] ^= 1 << random.randrange(8)
            return bytes(changed)
        case 2:
            return content[:position] + random.randbytes(random.randint(1, 50)) + content[position:]
        case 3:
            return random.randbytes(random.randint(0, 200))
    return content[:position] + content[random.randrange(len(content) + 1) :]


def damage(folder: Path, random: Random) -> None:
    """Damages one to three files."""
    for _ in range(random.randint(1, 3)):
        file = random.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
        content = file.read_bytes()
        kind = random.random()
        if kind < 0.05:
            file.unlink()
            file.mkdir()
        elif kind < 0.1:
            file.unlink()
            file.symlink_to(random.choice([file, Path("/etc/passwd"), Path("..")]))
        elif kind < 0.4 or file.suffix not in (".csv", ".data", ".json", ".names", ".txt", ".xml", ".yaml"):
            file.write_bytes(damage_bytes(content, random))
        else:
            change = damage_json if file.suffix == ".json" else damage_text
            try:
                file.write_bytes(change(content.decode(), random))
            except ValueError:  # damaged before
                file.write_bytes(damage_bytes(content, random))


def survives(writer: str, ending: str, seed: int) -> None:
    """Writes, damages and reads one data set; raises only what is not our own."""
    random = Random(seed)
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow warns of damaged metadata
        folder = Path(name)
        WRITERS[writer](folder, ending)
        damage(folder, random)
        try:
            dataset = open_dataset(folder, random.choice([None, "train"]), check_images=random.random() < 0.8)
        except DetdistillError as error:
            str(error).encode()
            return
        for image in dataset.images:
            assert ((image.boxes[:, :2] >= 0) & (image.boxes[:, 2:] <= (image.width, image.height))).all()
            assert (image.boxes[:, 2:] > image.boxes[:, :2]).all()
            assert (image.labels < len(dataset.classes)).all()
            assert Path(os.path.realpath(image.path)).is_relative_to(os.path.realpath(folder))
            try:
                assert read_image(image.path, (image.height, image.width)).shape == (image.height, image.width, 3)
            except DetdistillError as error:
                str(error).encode()


ENDINGS = st.sampled_from([".png", ".jpg", ".bmp", ".gif", ".tif", ".webp", ".ppm"])


@settings(max_examples=300)
@example(writer="coco", ending=".png", seed=805)  # a null character in a file name
@example(writer="cvat", ending=".png", seed=24128)  # a count of 6000 digits
@given(writer=st.sampled_from(sorted(WRITERS)), ending=ENDINGS, seed=st.integers(0, 2**64))
def test_damaged_data_is_refused_or_repaired(writer: str, ending: str, seed: int) -> None:
    survives(writer, ending, seed)


@pytest.mark.slow
@settings(max_examples=10_000)
@given(writer=st.sampled_from(sorted(WRITERS)), ending=ENDINGS, seed=st.integers(0, 2**64))
def test_much_damaged_data_is_refused_or_repaired(writer: str, ending: str, seed: int) -> None:
    survives(writer, ending, seed)


@pytest.mark.parametrize("value", JUNK, ids=lambda value: repr(value)[:20])
def test_every_value_of_a_coco_file_can_be_wrong(value: Any, tmp_path: Path) -> None:
    folder = write_coco(tmp_path)
    text = (folder / "train.json").read_text()
    for number in range(len(places(json.loads(text)))):
        content = json.loads(text)
        container, key = places(content)[number]
        container[key] = value
        (folder / "train.json").write_text(json.dumps(content))
        try:
            assert len(open_dataset(folder).images) == len(SIZES)
        except DetdistillError as error:
            str(error).encode()
