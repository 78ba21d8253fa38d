"""Image files to RGB arrays, whatever mode they are stored in, and nothing from a file that is not what it says."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError

from detdistill.core.errors import DataError
from detdistill.core.files import open_regular

Size = tuple[int, int]

ENDINGS = frozenset(
    {
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".pjpeg", ".pjp"),
        *(".png", ".apng"),
        *(".bmp", ".dib"),
        ".gif",
        *(".ppm", ".pgm", ".pbm", ".pnm"),  # not .pfm: decimal numbers without agreed colours, mostly depth
        *(".tif", ".tiff"),
        ".webp",
    }
)
"""Endings of image files, in lower case: those of the formats that are read."""

UNREADABLE_ENDINGS = frozenset(
    {".avif", ".heic", ".heif", ".jp2", ".jpf", ".jpx", ".j2k", ".jxl", ".tga", ".psd", ".svg", ".dng", ".cr2", ".nef"}
)
"""Endings of image formats that are not read, in lower case."""

# Named, because Pillow would otherwise try every format it knows, among them PostScript, which runs a program.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "PPM", "TIFF", "WEBP")
_USUAL_ENDING = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}  # MPO: a JPEG with further images behind it

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)


def image_size(path: Path) -> Size:
    """Height and width in pixels with the EXIF orientation applied, from the file's header alone.

    Raises:
        DataError: the file is missing, is no image, or is larger than Pillow's limit `PIL.Image.MAX_IMAGE_PIXELS`.
    """
    with _opened(path) as image:
        return _upright_size(image, _orientation(image))


def exif_orientation(path: Path) -> int:
    """Return the EXIF orientation, 1 to 8, that decoding applies to the stored pixels.

    Raises:
        DataError: as for `image_size`.
    """
    with _opened(path) as image:
        return _orientation(image)


def image_ending(path: Path) -> str:
    """Return the usual file name ending of the format that a file is stored in, for example `.jpg`.

    Raises:
        DataError: as for `image_size`.
    """
    with _opened(path) as image:
        assert image.format is not None
        return _USUAL_ENDING.get(image.format, f".{image.format.lower()}")


def possible_sizes(path: Path) -> tuple[Size, Size]:
    """Return the two sizes that annotations of an image can be made for, from the file's header alone.

    Returns:
        Height and width in pixels, first with the EXIF orientation applied, then as stored.

    Raises:
        DataError: As `image_size`.
    """
    with _opened(path) as image:
        return _upright_size(image, _orientation(image)), (image.height, image.width)


def read_image(path: Path, size: Size | None = None) -> NDArray[np.uint8]:
    """Decodes an image file.

    Colours come out as the usual viewers show them: palettes, grey and CMYK become RGB, 16 bits are scaled to 8, an
    alpha channel is dropped (as OpenCV does, so transparent pixels show the colour stored under them), and of an
    animation the first frame is read.

    Args:
        path: a JPEG, PNG, BMP, GIF, PNM, TIFF or WebP file.
        size: height and width that the annotations were made for. Some tools annotate the image as a viewer shows it,
            with the EXIF orientation applied, and some the stored pixels: the size tells which. Where it cannot, and
            where it is None, the orientation is applied.

    Returns:
        `(H, W, 3)` uint8 RGB.

    Raises:
        DataError: the file is missing, no image, truncated, too large (see `image_size`) or not of that size.
    """
    with _opened(path) as image:
        orientation = _orientation(image)
        upright, stored = _upright_size(image, orientation), (image.height, image.width)
        if size is not None and size not in (upright, stored):
            raise DataError(
                f"{path}: the image is {upright[1]}x{upright[0]} pixels and its annotations are for "
                f"{size[1]}x{size[0]}; use the images that were annotated, or correct width and height"
            )
        rgb = _rgb(image, path)
        if orientation in _UPRIGHT and size in (None, upright):
            rgb = rgb.transpose(_UPRIGHT[orientation])
        return np.array(rgb)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """The file's header; whatever Pillow raises then or in the body, as a `DataError`."""
    try:
        # Pillow warns of sizes, which are checked here, and of damaged metadata, of which the pixels know nothing.
        with (
            warnings.catch_warnings(action="ignore"),
            open_regular(path) as file,
            Image.open(file, formats=_FORMATS) as image,
        ):
            limit = Image.MAX_IMAGE_PIXELS
            # Pillow itself only warns up to twice its limit.
            if limit is not None and image.width * image.height > limit:
                raise Image.DecompressionBombError(f"{image.width}x{image.height} pixels, the limit is {limit}")
            yield image
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such image file") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError(
            f"{path}: refused as a possible decompression bomb ({error}); if it is none, cut the image into tiles or "
            "raise PIL.Image.MAX_IMAGE_PIXELS"
        ) from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: is no image in one of the formats {', '.join(_FORMATS)}, or damaged") from error
    # A damaged file makes Pillow's decoders raise anything: OSError, SyntaxError, struct.error, zlib.error, KeyError …
    except Exception as error:
        raise DataError(f"{path}: the image cannot be read ({error}); replace the file") from error


def _orientation(image: Image.Image) -> int:
    """EXIF's number, 1 to 8, of what is still to be done to the pixels."""
    if image.format == "TIFF":  # Pillow applies a TIFF's orientation while decoding
        return 1
    try:
        # Not image.getexif(): for PNG that decodes all pixels to look for a chunk behind them.
        return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged metadata, of which the pixels know nothing
        return 1


def _upright_size(image: Image.Image, orientation: int) -> Size:
    return (image.width, image.height) if orientation in _SIDEWAYS else (image.height, image.width)


def _rgb(image: Image.Image, path: Path) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # Pillow's own conversion clips at 255 instead of scaling.
        levels = np.asarray(image)
        if levels.min() < 0 or levels.max() > 65535:
            raise DataError(f"{path}: the grey levels lie outside 16 bits; save the image with 8 or 16 bits")
        return Image.fromarray(((levels.astype(np.uint32) + 128) // 257).astype(np.uint8)).convert("RGB")
    if image.mode in ("F", "LAB"):
        raise DataError(f"{path}: images of mode {image.mode} have no agreed colours; save it as 8-bit RGB")
    if image.mode in ("P", "PA", "La", "RGBa"):
        # By way of RGBA: Pillow has no direct conversion from some, and would blend transparent palette entries.
        return image.convert("LA" if image.mode == "La" else "RGBA").convert("RGB")
    return image.convert("RGB")
