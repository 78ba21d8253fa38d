from __future__ import annotations

from itertools import combinations
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from detdistill.data import near_duplicates as module
from detdistill.data.fingerprints import Fingerprints, difference_hashes, fingerprint, look_alike
from detdistill.data.near_duplicates import NEAR, near_copies, near_duplicates, nearest


def photograph(seed: int) -> Image.Image:
    """Smooth random shapes: like a photograph, and unlike noise, it survives shrinking."""
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((64, 48), Image.Resampling.BICUBIC)


def some_prints(seed: int, count: int, originals: int, noise: float, plain: float) -> Fingerprints:
    """Noisy copies of a few images, of which some cells are plain; noise up to some 60 bits of the hash."""
    rng = np.random.default_rng(seed)
    images = [np.asarray(photograph(seed + number)) for number in range(originals)]
    base = np.array([fingerprint(image) for image in images]).astype(float)
    base[:, rng.random(320) < plain] = 120
    values = base[rng.integers(originals, size=count)] + rng.normal(0, noise, (count, 320))
    return np.clip(values, 0, 255).astype(np.uint8)


def near_pairs(prints: Fingerprints, others: Fingerprints) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Numbers of different bits, and which pairs are near-duplicates: every pair is looked at."""
    bits = (difference_hashes(prints)[:, None] != difference_hashes(others)).sum(axis=2)
    return bits, (bits <= NEAR) & look_alike(prints, others)


SETS = {
    "seed": st.integers(0, 10_000),
    "originals": st.integers(1, 6),
    "noise": st.floats(0, 12),
    "plain": st.sampled_from([0.0, 0.5, 0.9, 1.0]),
}


@settings(max_examples=40)
@given(count=st.integers(0, 25), others=st.integers(0, 25), **SETS)
def test_the_nearest_copy_is_that_of_the_plain_way(
    count: int, others: int, seed: int, originals: int, noise: float, plain: float
) -> None:
    prints = some_prints(seed, count + others, originals, noise, plain)
    images, compared = prints[:count], prints[count:]
    bits, near = near_pairs(images, compared)
    expected = [
        min((index for index in range(others) if row[index]), key=lambda index: (distances[index], index), default=-1)
        for row, distances in zip(near, bits, strict=True)
    ]
    assert nearest(images, compared).tolist() == expected


@settings(max_examples=40)
@given(count=st.integers(1, 25), **SETS)
def test_a_file_is_no_copy_of_itself(count: int, seed: int, originals: int, noise: float, plain: float) -> None:
    prints = some_prints(seed, count, originals, noise, plain)
    files = np.arange(count)
    bits, near = near_pairs(prints, prints)
    np.fill_diagonal(near, val=False)
    expected = [
        min((index for index in range(count) if row[index]), key=lambda index: (distances[index], index), default=-1)
        for row, distances in zip(near, bits, strict=True)
    ]
    assert nearest(prints, prints, (files, files)).tolist() == expected


@settings(max_examples=40)
@given(count=st.integers(1, 25), **SETS)
def test_groups_are_those_of_the_plain_way(count: int, seed: int, originals: int, noise: float, plain: float) -> None:
    prints = some_prints(seed, count, originals, noise, plain)
    _, near = near_pairs(prints, prints)
    groups = [{index} for index in range(count)]
    for one, other in combinations(range(count), 2):
        first, second = (next(group for group in groups if index in group) for index in (one, other))
        if near[one, other] and first is not second:
            groups.remove(second)
            first |= second
    found = near_duplicates(prints)
    assert found == sorted(map(sorted, groups))


@settings(max_examples=60)
@given(seed=st.integers(0, 10_000), share=st.floats(0.12, 0.2), flipped=st.integers(1, NEAR), is_turned=st.booleans())
def test_near_hashes_share_a_block(seed: int, share: float, flipped: int, *, is_turned: bool) -> None:
    rng = np.random.default_rng(seed)
    # Of both sets, some hashes are near the usual one, with no bit set, and some are not.
    pair = [rng.random((30, 256)) < share] * 2
    pair[1] = pair[0] ^ (rng.random((30, 256)).argsort(axis=1) < flipped)
    hashes, others = reversed(pair) if is_turned else pair
    together = np.zeros((30, 30), np.bool_)
    with patch.object(module, "_ROWS_AT_ONCE", 4):
        for rows, columns in module._blocks(hashes, others):
            together[np.ix_(rows, columns)] = True
    assert together.diagonal().all()


def test_sets_larger_than_one_block_are_compared_entirely(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 16)
    monkeypatch.setattr(module, "_COLUMNS_AT_ONCE", 32)
    cameras = np.random.default_rng(0).permutation(300)
    base = np.array([fingerprint(np.asarray(photograph(number))) for number in range(3)])
    noise = np.random.default_rng(1).normal(0, 2, (300, 320))
    prints = np.clip(base[cameras % 3] + noise, 0, 255).astype(np.uint8)
    assert near_duplicates(prints) == sorted(np.flatnonzero(cameras % 3 == number).tolist() for number in range(3))
    found = nearest(prints[:200], prints[200:])
    bits, near = near_pairs(prints[:200], prints[200:])
    assert found.tolist() == np.where(near, bits, 999).argmin(axis=1).tolist()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(4):
        photograph(number).save(tmp_path / f"{number}.png")
    ImageEnhance.Brightness(photograph(1).resize((48, 36))).enhance(0.7).save(tmp_path / "copy_of_1.jpg", quality=60)
    photograph(2).save(tmp_path / "copy_of_2.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    return tmp_path


def test_copies_are_found_and_broken_files_are_named(folder: Path) -> None:
    images: list[str | Path] = [
        folder / "copy_of_1.jpg",
        folder / "broken.png",
        str(folder / "3.png"),
        folder / "copy_of_2.png",
    ]
    others = [folder / "broken.png", folder / "0.png", folder / "2.png", folder / "copy_of_2.png", folder / "1.png"]
    copies = near_copies(images, others)
    assert copies.of.tolist() == [4, -1, -1, 2]
    assert list(copies.unreadable) == [1]
    assert str(folder / "broken.png") in str(copies.unreadable[1])


def test_without_images_nothing_is_a_copy(folder: Path) -> None:
    assert near_copies([], [folder / "1.png"]).of.shape == (0,)
    assert near_copies([folder / "1.png"], []).of.tolist() == [-1]
    assert near_copies([folder / "1.png"], [folder / "broken.png", folder / "none.png"]).of.tolist() == [-1]


def test_plain_images_are_copies_of_their_own_colour_only(tmp_path: Path) -> None:
    colours = [(0, 0, 0), (40, 40, 40), (200, 0, 0), (0, 102, 0), (255, 255, 255)]
    for number, colour in enumerate(colours):
        Image.new("RGB", (30 + number, 20), colour).save(tmp_path / f"{number}.png")
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"again_{number}.jpg")
    images = [tmp_path / f"again_{number}.jpg" for number in (3, 1, 0, 2)]
    others = [tmp_path / f"{number}.png" for number in range(5)]
    assert near_copies(images, others).of.tolist() == [3, 1, 0, 2]
    assert near_copies(images[:2], others[2:3]).of.tolist() == [-1, -1]


def test_photographs_of_two_sources_are_recognised(photographs: Path) -> None:
    # The same micrographs, at 320x240 and at 640x480 pixels, of the same file names.
    images = sorted((photographs / "bccd" / "images").glob("*.jpg"))[:30]
    others = sorted((photographs / "bccd_voc" / "JPEGImages").glob("*.jpg"))[:60]
    found = near_copies(images, others).of
    assert [others[index].name if index >= 0 else None for index in found] == [
        image.name if image.name in {other.name for other in others} else None for image in images
    ]
