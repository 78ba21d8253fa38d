from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from detdistill.core.errors import DetdistillError
from detdistill.report.image_saving import MOST_BYTES, check_image_ending, format_like, jpeg_for_page, save_image

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), np.uint8))


@pytest.mark.parametrize(
    ("name", "expected"), [("a.png", "PNG"), ("a.PNG", "PNG"), ("a.jpg", "JPEG"), ("a.jpeg", "JPEG"), ("a.JPG", "JPEG")]
)
def test_the_ending_sets_the_format(name: str, expected: str, tmp_path: Path) -> None:
    save_image(IMAGE, tmp_path / name)
    with Image.open(tmp_path / name) as written:
        assert written.format == expected
        assert written.size == IMAGE.size


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.onnx", "a", "png", ".jpg", "a.jpg.txt"])
def test_other_endings_are_refused_and_named(name: str, tmp_path: Path) -> None:
    for write in (check_image_ending, lambda path: save_image(IMAGE, path)):
        with pytest.raises(DetdistillError, match=name):
            write(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_jpeg_keeps_thin_coloured_lines(tmp_path: Path) -> None:
    pixels = np.full((64, 64, 3), 90, np.uint8)
    pixels[:, 31] = (230, 159, 0)
    save_image(Image.fromarray(pixels), tmp_path / "line.jpg")
    with Image.open(tmp_path / "line.jpg") as written:
        assert JpegImagePlugin.get_sampling(written) == 0
        assert np.abs(np.asarray(written)[:, 31].astype(int) - (230, 159, 0)).max() < 30


def test_what_a_format_cannot_hold_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(DetdistillError, match=r"long\.jpg"):
        save_image(Image.new("RGB", (70_000, 1)), tmp_path / "long.jpg")
    assert not (tmp_path / "long.jpg").exists()
    with pytest.raises(DetdistillError, match="missing"):
        save_image(IMAGE, tmp_path / "missing" / "a.png")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((f"a.{ending}", "jpg") for ending in ("jpg", "JPEG", "webp", "tif", "bmp", "ppm")),
        *((f"a.{ending}", "png") for ending in ("png", "PNG", "gif")),
    ],
)
def test_photographs_become_jpeg_and_graphics_png(name: str, expected: str) -> None:
    assert format_like(name) == format_like(Path("folder") / name) == expected


def test_an_image_of_a_page_is_a_jpeg_of_bounded_size() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (400, 400, 3), np.uint8))
    for image in (IMAGE, noise):
        content = jpeg_for_page(image)
        assert len(content) <= MOST_BYTES
        assert Image.open(io.BytesIO(content)).size == image.size
        assert Image.open(io.BytesIO(content)).format == "JPEG"
