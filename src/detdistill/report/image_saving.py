"""Images to files, in the format that the name's ending asks for."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Literal

from PIL import Image

from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically

ImageFormat = Literal["jpg", "png"]

JPEG_QUALITY = 92
PAGE_QUALITIES = (85, 60, 30, 10)
MOST_BYTES = 120_000
"""Of an image on a page; JPEG's quality is lowered until it fits, or is the lowest."""
_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG"}
_GRAPHICS = frozenset({".png", ".gif"})


def check_image_ending(path: Path) -> None:
    """Raise `DetdistillError` unless an image can be written under this name: .jpg, .jpeg or .png, in any case."""
    if path.suffix.lower() not in _FORMATS:
        raise DetdistillError(
            f"{path}: unknown ending {path.suffix!r}; expected .jpg, .jpeg or .png, which sets the image's format"
            if path.suffix
            else f"{path}: the name has no ending; expected .jpg, .jpeg or .png, which sets the image's format"
        )


def format_like(source: str | Path) -> ImageFormat:
    """The format for a drawing on an image: PNG for one in PNG or GIF, which are lossless, JPEG for all others."""
    return "png" if Path(source).suffix.lower() in _GRAPHICS else "jpg"


def save_image(image: Image.Image, path: Path) -> None:
    """Write an RGB image; the name's ending sets the format.

    JPEG keeps the full colour resolution (4:4:4): thin coloured lines would blur otherwise.

    Raises:
        DetdistillError: the ending is not .jpg, .jpeg or .png, the format cannot hold the image, or the file cannot be
            written.
    """
    check_image_ending(path)
    file_format = _FORMATS[path.suffix.lower()]
    options = {"quality": JPEG_QUALITY, "subsampling": 0} if file_format == "JPEG" else {}
    content = io.BytesIO()
    try:
        image.save(content, file_format, **options)
    except (OSError, ValueError) as error:
        raise DetdistillError(
            f"{path}: {file_format} cannot hold this image of {image.width}x{image.height} pixels ({error}); "
            "choose the other format, .png or .jpg"
        ) from error
    write_atomically(path, content.getvalue())


def jpeg_for_page(image: Image.Image) -> bytes:
    """Return an RGB image as JPEG of at most `MOST_BYTES`, so that pages with many images stay small."""
    for quality in PAGE_QUALITIES:
        content = io.BytesIO()
        image.save(content, "JPEG", quality=quality, subsampling=0)
        if content.tell() <= MOST_BYTES:
            break
    return content.getvalue()
