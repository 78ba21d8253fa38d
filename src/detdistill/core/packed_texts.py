"""Many texts in two arrays.

Processes that load images are forks of one that holds the annotations. Reading a Python text counts a reference to it,
which copies the memory page of the text; reading an array writes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import overload

import numpy as np
from numpy.typing import NDArray

_ENCODING = "utf-8", "surrogatepass"  # file names of other encodings hold half characters


class PackedTexts(Sequence[str]):
    """Texts of any length, one after the other in one array.

    Args:
        content: `(b,)` uint8, all texts in UTF-8.
        starts: `(n + 1,)` int64, where each text starts in `content`, and where the last one ends.
    """

    def __init__(self, content: NDArray[np.uint8], starts: NDArray[np.int64]) -> None:
        self.content = content
        self.starts = starts

    @classmethod
    def of(cls, texts: Iterable[str]) -> PackedTexts:
        """Pack texts."""
        encoded = [text.encode(*_ENCODING) for text in texts]
        starts = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=starts[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), starts)

    @classmethod
    def joined(cls, parts: Sequence[PackedTexts]) -> PackedTexts:
        """Join parts one after the other."""
        before = np.cumsum([0, *(len(part.content) for part in parts)])
        starts = [part.starts[:-1] + offset for part, offset in zip(parts, before[:-1], strict=True)]
        content = [np.zeros(0, np.uint8), *(part.content for part in parts)]
        return cls(np.concatenate(content), np.concatenate([*starts, before[-1:]]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> PackedTexts: ...

    def __getitem__(self, index: int | slice) -> str | PackedTexts:
        if isinstance(index, slice):
            return self.take(np.arange(len(self))[index])
        place = range(len(self))[index]
        return str(self.content[self.starts[place] : self.starts[place + 1]].tobytes(), *_ENCODING)

    def __iter__(self) -> Iterator[str]:
        content = self.content.tobytes()
        for start, stop in pairwise(self.starts.tolist()):
            yield str(content[start:stop], *_ENCODING)

    def take(self, indices: NDArray[np.int64]) -> PackedTexts:
        """Return the texts of these indices, in this order."""
        rows, starts = ragged_rows(self.starts, indices)
        return PackedTexts(self.content[rows], starts)


def joined_masks(parts: Sequence[tuple[PackedTexts | None, int]]) -> PackedTexts | None:
    """Join the masks (RLE) of parts with so many objects; None if no part has masks.

    Args:
        parts: The masks of each part and its number of objects. Without masks, each gets an empty text.
    """
    if all(masks is None for masks, _ in parts):
        return None
    return PackedTexts.joined([PackedTexts.of([""] * count) if masks is None else masks for masks, count in parts])


def ragged_rows(starts: NDArray[np.int64], indices: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Choose some of several runs of rows that lie one after the other.

    Args:
        starts: `(n + 1,)` first row of each run, and the end of the last.
        indices: `(m,)` of the chosen runs, in the wanted order.

    Returns:
        The rows of the chosen runs, and where each run starts among them, `(m + 1,)`.
    """
    lengths = starts[indices + 1] - starts[indices]
    new_starts = np.zeros(len(indices) + 1, dtype=np.int64)
    np.cumsum(lengths, out=new_starts[1:])
    rows = np.arange(new_starts[-1]) + np.repeat(starts[indices] - new_starts[:-1], lengths)
    return rows, new_starts
