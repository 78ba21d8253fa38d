"""The annotated sets that a folder holds, and the one that a name means."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DataError, listed

_SYNONYMS = (("train", "training", "trainval"), ("val", "valid", "validation", "minival"), ("test", "testing"))

_HELD_OUT = frozenset(name for names in _SYNONYMS[1:] for name in names)

NAME_THE_SPLIT = "--split (in a recipe: data.train and data.val)"
NAME_THE_ANNOTATIONS = "--annotations (in a recipe: data.train and data.val; in Python: annotations)"
NAME_THE_IMAGES = "--images (in a recipe: data.train_images and data.val_images; in Python: images)"
"""How the user names a place, for messages."""


@dataclass(frozen=True)
class ReadOptions:
    """How a split is read.

    Attributes:
        images: Image folder instead of the recognised one.
        check_images: Every image file must be there.
        follow_links: Follow symbolic links that lead out of the dataset's folder.
        use_cache: Take annotations of a large file from the cache, if it seems unchanged.
        masks: Read the objects' masks, too.
    """

    images: Path | None = None
    check_images: bool = True
    follow_links: bool = False
    use_cache: bool = True
    masks: bool = False


@dataclass(frozen=True, eq=False)
class Split:
    """One annotated set that was recognised.

    Attributes:
        name: As the files have it, for example `train2017`.
        layout: Format, for messages.
        annotations: File or folder that defines the split.
        read: Reads it.
    """

    name: str
    layout: str
    annotations: Path
    read: Callable[[ReadOptions], DetectionDataset]

    def __str__(self) -> str:
        return f"{self.name} ({self.layout}, {self.annotations})"

    @property
    def words(self) -> frozenset[str]:
        """The words of its name, in lower case, without the years."""
        return _words(self.name)


def names_a_split(name: str) -> bool:
    """Return whether one of the usual names of a split is in the name of a file or folder."""
    return split_word(name) is not None


def is_held_out(name: str) -> bool:
    """Return whether a split is for validation or test, by its name."""
    return not _HELD_OUT.isdisjoint(re.split(r"[^a-z]+", name.lower()))


def split_word(name: str) -> str | None:
    """Return the usual name of a split in the name of a file or folder, such as `train` in `train_labels`."""
    return next((word for word in re.split(r"[^a-z]+", name.lower()) if is_split_name(word)), None)


def is_split_name(name: str) -> bool:
    """Return whether a folder's name is one of the usual names of a split, such as `valid` or `train2017`."""
    return any(re.sub(r"[ _-]?\d+$", "", name.lower()) in group for group in _SYNONYMS)


def usual_name(name: str) -> tuple[str, int] | None:
    """Return the usual name that a split's name means: `train`, `val` or `test`.

    Args:
        name: for example `valid`, `val2017` or `VOC2007/trainval`.

    Returns:
        The usual name and how far the given one is from it, 0 for itself; None for a name that means none or several.
    """
    words = _words(name)
    found = [(group[0], rank) for group in _SYNONYMS for rank, word in enumerate(group) if word in words]
    return found[0] if len({usual for usual, _ in found}) == 1 else None


def _words(name: str) -> frozenset[str]:
    return frozenset(re.sub(r"\d+$", "", word) for word in re.split(r"[^a-z0-9]+", name.lower()))


def choose(splits: Sequence[Split], wanted: str | None, path: Path) -> Split:
    """Return the split that is meant.

    A name as the files have it comes first, then the usual synonyms: `val` means also `valid`, `validation` and
    `val2017`; `train` means `trainval` only where there is no other.

    Args:
        splits: At least one.
        wanted: Its name; None where there is only one.
        path: What they were found in, for messages.

    Raises:
        DataError: none or several fit; the message lists them.
    """
    fitting = list(splits) if wanted is None else _fitting(splits, wanted)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise DataError(
            f"{path}: there is no split {wanted!r}; name one of these with {NAME_THE_SPLIT}, or an annotation file "
            f"with {NAME_THE_ANNOTATIONS}. Found:{listed(splits)}"
        )
    asked = "several splits" if wanted is None else f"several splits that {wanted!r} could mean"
    raise DataError(
        f"{path}: there are {asked}; name one of them with {NAME_THE_SPLIT}, or its annotation file or folder with "
        f"{NAME_THE_ANNOTATIONS}:{listed(fitting)}"
    )


def _fitting(splits: Sequence[Split], wanted: str) -> list[Split]:
    exact = [split for split in splits if split.name == wanted]
    if exact:
        return exact
    group = next((group for group in _SYNONYMS if wanted.lower() in group), (wanted.lower(),))
    for word in (wanted.lower(), *group):
        fitting = [split for split in splits if word in split.words]
        if fitting:
            return fitting
    return []
