"""Which image files are known to have their annotated sizes: opening a hundred thousand images takes minutes."""

from __future__ import annotations

import hashlib
import os
import struct
import time

from detdistill.core.annotations import ImageTable
from detdistill.data.annotation_cache import SETTLED, cache_folder

_MANY = 2_000  # images; fewer are opened in half a second


class SizeCheck:
    """A check of all images of a dataset, which is known to have found nothing, or not.

    It belongs to the images' paths and annotated sizes, and to the size, the time of change and the inode of each file.

    Args:
        images: The images; their objects do not matter.
    """

    def __init__(self, images: ImageTable) -> None:
        root = cache_folder()
        digest = None if root is None or len(images) < _MANY else _digest(images)
        self._mark = None if root is None or digest is None else root.with_name("checked") / digest

    def is_known(self) -> bool:
        """Return whether the check was made before, and found nothing."""
        return self._mark is not None and self._mark.exists()

    def remember(self) -> None:
        """Keep that the check found nothing."""
        if self._mark is not None:
            try:
                self._mark.parent.mkdir(parents=True, exist_ok=True)
                self._mark.touch()
            except OSError:  # a full disk: the images are opened again
                return


def _digest(images: ImageTable) -> str | None:
    """Return a name for these files in their present state; None if one is missing or was just changed."""
    digest = hashlib.sha256(images.paths.content.tobytes() + images.paths.starts.tobytes() + images.sizes.tobytes())
    newest = 0
    for path in images.paths:
        try:
            state = os.stat(path)  # noqa: PTH116  # a Path for each takes twice as long
        except (OSError, ValueError):
            return None
        newest = max(newest, state.st_mtime_ns)
        digest.update(struct.pack("<QqQ", state.st_size, state.st_mtime_ns, state.st_ino))
    return digest.hexdigest() if time.time() - newest / 1e9 >= SETTLED else None
