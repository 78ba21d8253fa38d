"""A folder of images with boxes drawn on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import DetdistillError
from detdistill.core.overwriting import check_output_folder, check_outputs
from detdistill.core.structures import Detections
from detdistill.report.drawing import draw_detections
from detdistill.report.image_saving import ImageFormat, format_like, save_image


class DrawnImages:
    """Writes images with boxes into a folder, each under its file's name; equal names are numbered.

    Args:
        folder: Output folder, created if it does not exist.
        files: All image files that may be drawn on, each once.
        classes: Names of the labels.
        image_format: Of the drawings; None for PNG on PNG and GIF files, and JPEG on all others.

    Raises:
        DetdistillError: The folder cannot be created, an image file lies in it, or a drawing would replace an image.
    """

    def __init__(
        self,
        folder: Path,
        files: Sequence[Path],
        classes: Sequence[str],
        image_format: ImageFormat | None = None,
    ) -> None:
        check_output_folder(folder, "--out", files)
        self.classes = tuple(classes)
        self.places = {
            file: folder / name for file, name in zip(files, drawing_names(files, image_format), strict=True)
        }
        check_outputs(dict.fromkeys(self.places.values(), "--out"), files, makes_folders=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DetdistillError(f"--out {folder}: the folder cannot be created ({error.strerror})") from error

    def draw(self, file: Path, image: NDArray[np.uint8], found: Detections) -> None:
        """Write the drawing of one of the files.

        Args:
            file: One of `files`.
            image: `(H, W, 3)` uint8 RGB.
            found: In pixels of the image.

        Raises:
            DetdistillError: The drawing cannot be written.
        """
        save_image(draw_detections(image, found, self.classes), self.places[file])


def drawing_names(files: Sequence[Path], image_format: ImageFormat | None = None) -> list[str]:
    """Return a file name for the drawing on each image: its stem with the ending of the format.

    Names differ in more than case, because some file systems do not tell the cases apart: a name that is taken gets a
    number.

    Args:
        files: The images.
        image_format: Of the drawings; None for PNG on PNG and GIF files, and JPEG on all others.
    """
    names: list[str] = []
    taken: set[str] = set()
    last: dict[str, int] = {}
    for file in files:
        ending = image_format or format_like(file)
        first = name = f"{file.stem}.{ending}"
        number = last.get(first.lower(), 1)
        while name.lower() in taken:
            number += 1
            name = f"{file.stem}_{number}.{ending}"
        last[first.lower()] = number
        taken.add(name.lower())
        names.append(name)
    return names
