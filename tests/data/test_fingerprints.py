from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from detdistill.core import parallel
from detdistill.data.fingerprints import difference_hashes, fingerprint, look_alike, read_fingerprints

SIZE = (64, 48)


def photograph(seed: int) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(SIZE, Image.Resampling.BICUBIC)


def plain(*colour: int) -> Image.Image:
    return Image.new("RGB", SIZE, colour)


def with_square(x: int, y: int) -> Image.Image:
    image = plain(230, 230, 230)
    ImageDraw.Draw(image).rectangle((x, y, x + 7, y + 7), fill=(20, 60, 200))
    return image


def stripes(*rows: int) -> Image.Image:
    image = plain(90, 90, 90)
    for row in rows:
        ImageDraw.Draw(image).rectangle((0, row, SIZE[0], row + 5), fill=(250, 250, 250))
    return image


def between_bars(inner: Image.Image, *, at_the_sides: bool) -> Image.Image:
    image = plain(0, 0, 0)
    size, place = ((16, 48), (24, 0)) if at_the_sides else ((64, 12), (0, 18))
    image.paste(inner.resize(size), place)
    return image


def compressed(image: Image.Image) -> Image.Image:
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=40)
    return Image.open(stream)


def alike(one: Image.Image, other: Image.Image) -> bool:
    prints = np.stack([fingerprint(np.asarray(image.convert("RGB"))) for image in (one, other)])
    found = look_alike(prints[:1], prints[1:])
    assert found == look_alike(prints[1:], prints[:1])
    return bool(found)


def ramp() -> NDArray[np.uint8]:
    row = np.arange(0, 255, 3, dtype=np.uint8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (32, 85, 3)))


def test_a_hash_says_which_cells_are_darker_than_their_right_neighbour() -> None:
    images = ramp(), np.ascontiguousarray(ramp()[:, ::-1]), np.full((5, 7, 3), 80, np.uint8)
    hashes = difference_hashes(np.stack([fingerprint(image) for image in images]))
    assert hashes.shape == (3, 256)
    assert hashes.all(axis=1).tolist() == [True, False, False]
    assert not hashes[1:].any()


@pytest.mark.parametrize(
    "change",
    [
        compressed,
        lambda image: image.resize((41, 29)),
        lambda image: ImageEnhance.Brightness(image).enhance(0.5),
        lambda image: ImageEnhance.Contrast(image).enhance(0.6),
        lambda image: image.convert("L"),
    ],
)
def test_changes_of_a_copy_leave_it_alike(change: Callable[[Image.Image], Image.Image]) -> None:
    for seed in range(5):
        assert alike(photograph(seed), change(photograph(seed)))


@pytest.mark.parametrize("image", [plain(90, 90, 90), plain(10, 200, 30), with_square(20, 20), stripes(10)])
def test_compressed_drawings_stay_alike(image: Image.Image) -> None:
    assert alike(image, compressed(image))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (plain(90, 90, 90), plain(100, 100, 100)),
        (plain(0, 0, 0), plain(255, 255, 255)),
        (plain(200, 0, 0), plain(0, 102, 0)),  # equally bright
        (plain(230, 230, 230), with_square(20, 20)),
        (with_square(20, 20), with_square(40, 10)),
        (stripes(10), stripes(30)),
        (stripes(10), plain(90, 90, 90)),
        (Image.fromarray(ramp()), Image.fromarray(ramp()[:, ::-1])),
    ],
)
def test_drawings_of_different_content_are_not_alike(one: Image.Image, other: Image.Image) -> None:
    assert not alike(one, other)


@pytest.mark.parametrize("at_the_sides", [True, False])
def test_equal_bars_do_not_make_images_alike(at_the_sides: bool) -> None:
    images = [between_bars(photograph(seed), at_the_sides=at_the_sides) for seed in range(6)]
    for number, one in enumerate(images):
        assert [alike(one, other) for other in images] == [number == other for other in range(6)]
        assert alike(one, ImageEnhance.Brightness(one).enhance(0.6))


def noisy_plain(seed: int, level: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).integers(-1, 2, (48, 64, 3))
    return np.clip(level + noise, 0, 255).astype(np.uint8)


@given(seed=st.integers(0, 1000), level=st.integers(1, 254), other=st.integers(1, 254))
def test_nearly_plain_images_are_compared_by_their_brightness(seed: int, level: int, other: int) -> None:
    pair = fingerprint(noisy_plain(seed, level)), fingerprint(noisy_plain(seed + 1, other))
    found = look_alike(pair[0][None], pair[1][None]).item()
    if abs(level - other) != 1:  # rounding decides between neighbours
        assert found == (level == other)


@given(seed=st.integers(0, 1000), rows=st.integers(1, 5), columns=st.integers(1, 5))
def test_a_block_of_pairs_is_compared_pair_by_pair(seed: int, rows: int, columns: int) -> None:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 256, (2, 320))
    prints = [
        np.clip(base[rng.integers(2, size=n)] + rng.normal(0, 4, (n, 320)), 0, 255).astype(np.uint8)
        for n in (rows, columns)
    ]
    found = look_alike(*prints)
    assert found.tolist() == [[look_alike(a[None], b[None]).item() for b in prints[1]] for a in prints[0]]


def test_several_processes_read_what_one_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files: list[tuple[str, tuple[int, int] | None]] = []
    for number in range(40):
        path = tmp_path / f"{number}.png"
        photograph(number).save(path)
        files.append((str(path), (48, 64) if number % 2 else None))
    (tmp_path / "7.png").write_bytes(b"nothing")
    (tmp_path / "30.png").unlink()
    files[11] = (files[11][0], (10, 10))
    alone, faults = read_fingerprints(files)
    monkeypatch.setattr(parallel, "_MANY", 1)
    monkeypatch.setattr(parallel, "usable_processors", lambda: 2)
    shared, shared_faults = read_fingerprints(files)
    assert sorted(faults) == sorted(shared_faults) == [7, 11, 30]
    assert all(str(files[index][0]) in str(error) for index, error in shared_faults.items())
    assert np.array_equal(alone, shared)
    assert not alone[[7, 11, 30]].any()
    assert np.array_equal(alone[0], fingerprint(np.asarray(photograph(0))))
