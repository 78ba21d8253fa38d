"""Image files in a dataset that is written: copied or hard-linked, and a place that is no input's."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.files import check_new


class ImageFiles:
    """Puts image files into a new dataset; the pixels are never decoded or held in memory.

    Args:
        link: make hard links to the original files instead of copies. Symbolic links out of the folder would be
            refused by `open_dataset`, and would break when the folder is moved.
    """

    def __init__(self, link: bool) -> None:
        self.link = link
        self._placed: dict[Path, Path] = {}

    def place(self, source: Path, target: Path) -> None:
        """Put one image at `target`, whose folder is made; a source that was placed before takes no space again.

        Raises:
            DetdistillError: the file cannot be read or linked, or the target cannot be written.
        """
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            real = source.resolve()
            if self.link:
                os.link(real, target)
                return
            first = self._placed.setdefault(real, target)
            if first == target or not _linked(first, target):
                shutil.copyfile(real, target)
        except OSError as error:
            reason = error.strerror or error
            if self.link:
                raise DetdistillError(
                    f"{source}: no hard link can be made to this image ({reason}); expected an output folder on the "
                    "file system of the images; leave out the link option to copy"
                ) from error
            raise DetdistillError(f"{source}: the image cannot be copied ({reason})") from error


def _linked(first: Path, target: Path) -> bool:
    """Whether a hard link could be made; some file systems have none."""
    try:
        os.link(first, target)
    except OSError:
        return False
    return True


def check_output(out: Path, datasets: Iterable[DetectionDataset]) -> None:
    """Check that a dataset can be written to `out` without touching what it is made from.

    Raises:
        DetdistillError: `out` exists, or lies in a folder that holds the source's images.
    """
    check_new(out)
    target = out.resolve()
    for dataset in datasets:
        folders = {record.path.parent for record in dataset.images}
        folders = {folder.resolve() for folder in folders}
        if folders:
            folders.add(Path(os.path.commonpath(folders)))
        inside = next((folder for folder in folders if target.is_relative_to(folder)), None)
        if inside is not None:
            raise DetdistillError(
                f"{out}: the output folder lies in the image folder {inside} of the source; "
                "expected a folder outside it; name another folder"
            )
