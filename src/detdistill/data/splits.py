"""The annotated sets that a folder holds, and the one that a name means."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detdistill.annotations import DetectionDataset
from detdistill.errors import DataError, listed

_SYNONYMS = (("train", "training", "trainval"), ("val", "valid", "validation", "minival"), ("test", "testing"))


@dataclass(frozen=True, eq=False)
class Split:
    """One annotated set that was recognised.

    Attributes:
        name: as the files have it, for example `train2017`.
        layout: the format, for messages.
        annotations: the file that defines the split.
        read: opens it, given the image folder (None: as recognised) and whether every image file must be there.
    """

    name: str
    layout: str
    annotations: Path
    read: Callable[[Path | None, bool], DetectionDataset]

    def __str__(self) -> str:
        return f"{self.name} ({self.layout}, {self.annotations})"

    @property
    def words(self) -> frozenset[str]:
        """The words of its name, in lower case, without the years."""
        return _words(self.name)


def names_a_split(name: str) -> bool:
    """Whether one of the usual names of a split is in a file's name."""
    usual = {word for group in _SYNONYMS for word in group}
    return not usual.isdisjoint(re.split(r"[^a-z]+", name.lower()))


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
    """The split that is meant.

    A name as the files have it comes first, then the usual synonyms: `val` means also `valid`, `validation` and
    `val2017`; `train` means `trainval` only where there is no other.

    Args:
        splits: at least one.
        wanted: its name; None where there is only one.
        path: what they were found in, for messages.

    Raises:
        DataError: none or several fit; the message lists them.
    """
    fitting = list(splits) if wanted is None else _fitting(splits, wanted)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise DataError(f"{path}: there is no split {wanted!r}; found:{listed(splits)}")
    asked = "several splits" if wanted is None else f"several splits that {wanted!r} could mean"
    raise DataError(f"{path}: there are {asked}; name one of them, or its annotation file:{listed(fitting)}")


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
