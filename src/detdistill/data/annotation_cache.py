"""Annotations of large files as they were read before, so that a second start takes less than a second.

An entry is a folder of arrays, which are mapped into memory: several processes share them. It belongs to a path, a
size, a time of change and an inode; whatever is wrong with it, the file is read instead.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detdistill.core.annotations import DetectionDataset, ImageTable
from detdistill.core.errors import DetdistillError, Problem
from detdistill.core.files import new_folder
from detdistill.core.packed_texts import PackedTexts

VARIABLE = "DETDISTILL_CACHE"
"""Environment variable: the cache's folder, or `off`."""

LIMIT = 4 << 30
"""Bytes of all entries together; the ones that were not used for longest are removed."""

SETTLED = 2.0
"""Seconds since a file was changed, from which on it is kept: sooner, it may change again at the same time."""

_SMALLEST = 8 << 20  # bytes; a smaller file is read in a tenth of a second
_FORMAT = 1
_TEXTS = ("id_texts", "file_names")
_ARRAYS = ("numbered", "sizes", "starts", "boxes", "labels", "areas", "crowd", "difficult")


class CacheEntry:
    """Where the annotations of one file are kept.

    Args:
        file: The annotation file, as the user named it: messages repeat it.
        masks: Whether the objects' masks are kept, too.
    """

    def __init__(self, file: Path, *, masks: bool = False) -> None:
        self._file = file
        self._texts = (*_TEXTS, "masks") if masks else _TEXTS
        self._state = _state(file)
        root = cache_folder()
        key = json.dumps([_FORMAT, str(file), str(file.absolute()), self._state, *["masks"] * masks]).encode()
        name = hashlib.sha256(key).hexdigest()[:32]
        is_kept = root is not None and self._state is not None and self._state[0] >= _SMALLEST
        self._folder = root / name if root is not None and is_kept else None

    def read(self) -> DetectionDataset | None:
        """Return the annotations; None if they are not there. The images' paths are their file names."""
        if self._folder is None:
            return None
        try:
            meta = json.loads((self._folder / "meta.json").read_text(encoding="utf-8"))
            table = _table(self._folder, self._texts)
            os.utime(self._folder)
            problems = tuple(Problem(**problem) for problem in meta["problems"])
            return DetectionDataset(
                str(self._file), tuple(meta["classes"]), tuple(meta["category_ids"]), table, problems
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError):
            return None

    def write(self, dataset: DetectionDataset) -> None:
        """Keep the annotations, unless the file has changed since it was read, or there is no room."""
        if self._folder is None or self._state is None or self._state != _state(self._file):
            return
        if time.time() - self._state[1] / 1e9 < SETTLED:
            return
        images = dataset.images
        arrays: dict[str, NDArray[Any]] = {name: getattr(images, name) for name in _ARRAYS}
        for name in self._texts:
            texts: PackedTexts = getattr(images, name)
            arrays |= {f"{name}_content": texts.content, f"{name}_starts": texts.starts}
        meta = {
            "classes": dataset.classes,
            "category_ids": dataset.category_ids,
            "problems": [asdict(problem) for problem in dataset.problems],
        }
        size = sum(array.nbytes for array in arrays.values())
        try:
            _make_room(self._folder.parent, size)
            shutil.rmtree(self._folder, ignore_errors=True)  # what cannot be read
            with new_folder(self._folder) as folder:
                for name, array in arrays.items():
                    np.save(folder / f"{name}.npy", array, allow_pickle=False)
                (folder / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        except (OSError, DetdistillError):  # a full disk or a second process: the file is read again
            return


def cache_folder() -> Path | None:
    """Return the folder of the entries; None if `DETDISTILL_CACHE` is `off`."""
    given = os.environ.get(VARIABLE, "")
    if given.lower() in ("off", "0", "no", "false"):
        return None
    base = Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache")) / "detdistill"
    return base.expanduser() / "annotations"


def _state(file: Path) -> tuple[int, int, int] | None:
    """Return the size, the time of change in nanoseconds and the inode of a file; None if there is none."""
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_size, stat.st_mtime_ns, stat.st_ino


def _table(folder: Path, texts: Sequence[str]) -> ImageTable:
    """Return the table of an entry, with these columns of texts.

    Raises:
        OSError: An array is not there.
        ValueError: An array is damaged, or the arrays do not belong together.
    """
    columns: dict[str, Any] = {name: _mapped(folder / f"{name}.npy") for name in _ARRAYS}
    for name in texts:
        columns[name] = PackedTexts(*(_mapped(folder / f"{name}_{part}.npy") for part in ("content", "starts")))
    images, objects = len(columns["sizes"]), len(columns["boxes"])
    lengths = {len(columns[name]) for name in ("labels", "areas", "crowd", "difficult")} | {int(columns["starts"][-1])}
    if {len(columns["id_texts"]), len(columns["file_names"]), len(columns["starts"]) - 1} != {images}:
        raise ValueError("the columns of images differ in length")
    if lengths != {objects} or len(columns.get("masks", columns["labels"])) != objects:
        raise ValueError("the columns of objects differ in length")
    return ImageTable(**columns, paths=columns["file_names"])


def _mapped(file: Path) -> NDArray[Any]:
    array: NDArray[Any] = np.load(file, mmap_mode="r", allow_pickle=False)
    return np.asarray(array)  # the class `memmap` only makes slices slow


def _make_room(folder: Path, size: int) -> None:
    """Remove the entries that were not used for longest until one more fits."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = sorted(folder.iterdir(), key=lambda entry: entry.stat().st_mtime)
    sizes = {entry: sum(file.stat().st_size for file in entry.glob("*")) for entry in entries}
    for entry in entries:
        if sum(sizes.values()) + size <= LIMIT:
            break
        shutil.rmtree(entry, ignore_errors=True)
        del sizes[entry]
