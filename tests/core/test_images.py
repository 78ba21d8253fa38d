"""Reading image files of every mode, orientation and kind of damage."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from detdistill.core.errors import DataError
from detdistill.core.images import ENDINGS, UNREADABLE_ENDINGS, exif_orientation, image_ending, image_size, read_image

GREY_16 = (np.arange(64, dtype=np.uint16) * 1040).reshape(4, 16)
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8)


def write_png(path: Path, size: tuple[int, int], depth: int, colour: int, rows: bytes) -> None:
    """A PNG of a kind that Pillow does not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", size[1], size[0], depth, colour, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


@pytest.mark.parametrize("ending", ["png", "bmp", "ppm", "tif", "gif"])
def test_lossless_formats_come_out_as_they_went_in(ending: str, tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    stored = image.quantize(64) if ending == "gif" else image
    stored.save(tmp_path / f"a.{ending}")
    read = read_image(tmp_path / f"a.{ending}")
    assert read.dtype == np.uint8
    assert read.flags.writeable
    np.testing.assert_array_equal(read, np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_16_bit_grey_is_scaled_to_8(ending: str, tmp_path: Path) -> None:
    Image.fromarray(GREY_16).save(tmp_path / f"a.{ending}")
    expected = np.round(GREY_16 / 65535 * 255)
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{ending}"), np.repeat(expected[..., None], 3, axis=-1))


def test_16_bit_colour_is_scaled_to_8(tmp_path: Path) -> None:
    levels = np.arange(4 * 5 * 3, dtype=np.uint16).reshape(4, 5, 3) * 1100
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in levels)
    write_png(tmp_path / "a.png", (4, 5), depth=16, colour=2, rows=rows)
    assert np.abs(read_image(tmp_path / "a.png") - levels / 257).max() <= 1


def test_32_bit_grey_is_read_only_where_it_fits_16_bits(tmp_path: Path) -> None:
    Image.fromarray(GREY_16.astype(np.int32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[..., 0], np.round(GREY_16 / 65535 * 255))
    Image.fromarray(GREY_16.astype(np.int32) * 100).save(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"b\.tif.*16 bits"):
        read_image(tmp_path / "b.tif")


def test_floating_point_images_are_refused(tmp_path: Path) -> None:
    Image.fromarray(GREY_16.astype(np.float32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match="8-bit RGB"):
        read_image(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("mode", "colour", "file", "expected"),
    [
        ("1", 1, "a.png", (255, 255, 255)),
        ("L", 77, "a.png", (77, 77, 77)),
        ("LA", (77, 0), "a.png", (77, 77, 77)),
        ("RGBA", (10, 20, 30, 0), "a.png", (10, 20, 30)),
        ("RGBA", (10, 20, 30, 128), "a.tif", (10, 20, 30)),
        ("CMYK", (0, 255, 255, 0), "a.jpg", (255, 0, 0)),
        ("CMYK", (0, 0, 0, 255), "a.tif", (0, 0, 0)),
    ],
)
def test_other_modes_become_rgb(
    mode: str, colour: int | tuple[int, ...], file: str, expected: tuple[int, ...], tmp_path: Path
) -> None:
    Image.new(mode, (8, 4), colour).save(tmp_path / file)
    read = read_image(tmp_path / file)
    assert read.shape == (4, 8, 3)
    assert (read == expected).all()


@pytest.mark.parametrize("ending", ["png", "gif"])
def test_a_transparent_palette_entry_keeps_its_colour(ending: str, tmp_path: Path) -> None:
    image = Image.new("P", (8, 4), 1)
    image.putpalette([0, 0, 0, 200, 100, 50])
    image.save(tmp_path / f"a.{ending}", transparency=1)
    assert (read_image(tmp_path / f"a.{ending}") == (200, 100, 50)).all()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", ["jpg", "png", "webp", "tif"])
def test_exif_orientation_is_applied(ending: str, orientation: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif)
    with Image.open(path) as opened:
        expected = np.asarray(ImageOps.exif_transpose(opened).convert("RGB"))
    assert expected.shape[:2] == ((10, 6) if orientation > 4 else (6, 10))
    assert image_size(path) == expected.shape[:2]
    np.testing.assert_array_equal(read_image(path), expected)
    np.testing.assert_array_equal(read_image(path, image_size(path)), expected)


def test_an_image_annotated_as_it_is_stored_stays_unrotated(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[ExifTags.Base.Orientation] = 6
    image.save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", (6, 10)), PIXELS)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png", (10, 6)), np.rot90(PIXELS, -1))
    with pytest.raises(DataError, match=r"a\.png.*6x10.*7x9"):
        read_image(tmp_path / "a.png", (9, 7))


def test_damaged_exif_does_not_lose_the_image(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0MM\0*\0\0")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), PIXELS)


@pytest.mark.parametrize("ending", ["jpg", "png", "bmp", "tif"])
def test_a_truncated_image_is_an_error_that_names_it(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    Image.fromarray(np.tile(PIXELS, (10, 10, 1))).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=rf"a\.{ending}"):
        read_image(path)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"no image", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"])
def test_what_is_no_image_is_an_error_that_names_it(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.jpg"):
            read(tmp_path / "a.jpg")


def test_a_missing_image_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jpg.*no such"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("side", [10_000, 60_000])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_decompression_bomb_is_refused_by_its_header(side: int, tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", (side, side), depth=8, colour=0, rows=b"")
    limit = Image.MAX_IMAGE_PIXELS
    for read in (read_image, image_size):
        with pytest.raises(DataError, match=r"a\.png.*bomb"):
            read(tmp_path / "a.png")
    assert limit == Image.MAX_IMAGE_PIXELS


def test_the_size_is_read_from_the_header_alone(tmp_path: Path) -> None:
    write_png(tmp_path / "a.png", (400, 300), depth=8, colour=2, rows=b"")
    assert image_size(tmp_path / "a.png") == (400, 300)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_read_from_the_header(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new("RGB", (10, 6)).save(tmp_path / "a.jpg", exif=exif)
    assert exif_orientation(tmp_path / "a.jpg") == orientation


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".gif", ".tif", ".webp"])
def test_the_usual_ending_is_that_of_the_content(ending: str, tmp_path: Path) -> None:
    Image.new("RGB", (10, 6)).save(tmp_path / f"a{ending}")
    assert image_ending((tmp_path / f"a{ending}").rename(tmp_path / "a")) == ending


def test_all_endings_of_the_formats_are_known() -> None:
    """But for `.pfm`, whose numbers are no colours; the browsers' further endings of JPEG are known too."""
    formats = {"JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP"}
    registered = {ending for ending, name in Image.registered_extensions().items() if name in formats}
    assert registered - {".pfm"} == ENDINGS - {".pjpeg", ".pjp"}
    assert not ENDINGS & UNREADABLE_ENDINGS


@pytest.mark.filterwarnings("error")
def test_libraries_warn_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    damaged = bytearray(exif.tobytes())
    damaged[14:16] = b"\xff\xff"  # the number of entries
    Image.new("RGB", (30, 20)).save(tmp_path / "exif.jpg", exif=bytes(damaged))
    Image.new("RGB", (30, 20)).save(tmp_path / "cut.tif")
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:-20])
    assert read_image(tmp_path / "exif.jpg").shape[2] == 3
    for name in ("exif.jpg", "cut.tif"):
        try:
            image_size(tmp_path / name)
            read_image(tmp_path / name)
        except DataError as error:
            assert name in str(error)  # noqa: PT017  # either is right
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # Pillow warns up to twice as many
    with pytest.raises(DataError, match="bomb"):
        image_size(tmp_path / "exif.jpg")
