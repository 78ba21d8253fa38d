"""Images that are nearly equal: groups of them in one set, and the copies in one set of images of another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import DataError
from detdistill.data.fingerprints import Fingerprints, difference_hashes, look_alike, read_fingerprints

NEAR = 20
"""Bits of 256 by which the hashes of near-duplicates may differ: other size, compression, brightness, a small shift."""

_USUAL = 40  # bits by which a hash may differ from the usual one of its set to be compared with all others like it
_ROWS_AT_ONCE, _COLUMNS_AT_ONCE = 256, 4096

Hashes = NDArray[np.bool_]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Copies:
    """Which images are near-duplicates of others.

    Attributes:
        of: `(n,)` index among the others of an image that each is nearly equal to; -1 for none.
        unreadable: Index of each image that cannot be decoded, and why; `of` is -1 there.
    """

    of: Indices
    unreadable: Mapping[int, DataError]


def near_copies(images: Sequence[str | Path], others: Sequence[str | Path]) -> Copies:
    """Find the images that are near-duplicates of others.

    Two images are near-duplicates if their hashes differ in at most `NEAR` bits and they look alike, see `look_alike`.
    Of several near-duplicates the one of the nearest hash is found, and of equally near ones the first.

    Args:
        images: Image files.
        others: Image files to compare them with. Files that cannot be decoded are skipped.
    """
    paths = {path: index for index, path in enumerate(dict.fromkeys(map(str, (*images, *others))))}
    prints, faults = read_fingerprints([(path, None) for path in paths])
    readable = np.ones(len(paths), np.bool_)
    readable[list(faults)] = False
    rows, columns = (np.array([paths[str(path)] for path in each], np.int64) for each in (images, others))
    kept, other_kept = np.flatnonzero(readable[rows]), np.flatnonzero(readable[columns])
    found = nearest(prints[rows[kept]], prints[columns[other_kept]])
    of = np.full(len(images), -1, np.int64)
    of[kept[found >= 0]] = other_kept[found[found >= 0]]
    return Copies(of, {index: faults[row] for index, row in enumerate(rows.tolist()) if row in faults})


def nearest(prints: Fingerprints, others: Fingerprints, files: tuple[Indices, Indices] | None = None) -> Indices:
    """Return the index of the nearest near-duplicate among the others, the first of several; -1 for none.

    Args:
        prints: `(n, 320)`.
        others: `(m, 320)`.
        files: `(n,)` and `(m,)` numbers of the files. A file is no near-duplicate of itself. None: not compared.

    Returns:
        `(n,)` int64.
    """
    hashes, other_hashes = difference_hashes(prints), difference_hashes(others)
    least = np.full(len(prints), NEAR + 1, np.int64)
    found = np.full(len(prints), -1, np.int64)
    for rows, columns in _blocks(hashes, other_hashes):
        bits = _different_bits(hashes[rows], other_hashes[columns])
        better = bits < least[rows, None]
        better |= (bits == least[rows, None]) & (columns < found[rows, None])
        if files is not None:
            better &= files[0][rows, None] != files[1][columns]
        _keep_alike(better, prints[rows], others[columns])
        changed = np.flatnonzero(better.any(axis=1))
        rank = np.where(better[changed], bits[changed] * len(others) + columns, np.iinfo(np.int64).max)
        best = rank.argmin(axis=1)
        found[rows[changed]] = columns[best]
        least[rows[changed]] = bits[changed, best]
    return found


def near_duplicates(prints: Fingerprints) -> list[list[int]]:
    """Group images such that any two near-duplicates are in one group (single linkage).

    Args:
        prints: `(n, 320)`.

    Returns:
        The groups, also those of one, each ascending, ordered by their first member.
    """
    distinct, inverse = np.unique(prints, axis=0, return_inverse=True)
    hashes = difference_hashes(distinct)
    group = np.arange(len(distinct))
    for rows, columns in _blocks(hashes, hashes):
        columns = columns[columns > rows.min()]  # each pair is in a block both ways
        if (group[rows] == group[rows[0]]).all():
            columns = columns[group[columns] != group[rows[0]]]
        near = _different_bits(hashes[rows], hashes[columns]) <= NEAR
        near &= group[rows, None] != group[columns]
        _keep_alike(near, distinct[rows], distinct[columns])
        for row in np.flatnonzero(near.any(axis=1)):
            joined = np.unique(np.append(group[columns[near[row]]], group[rows[row]]))
            if len(joined) > 1:
                group[np.isin(group, joined)] = joined[0]
    by_group: dict[int, list[int]] = {}
    for index, label in enumerate(group[inverse.reshape(-1)].tolist()):
        by_group.setdefault(label, []).append(index)
    return list(by_group.values())


def _blocks(hashes: Hashes, others: Hashes) -> Iterator[tuple[Indices, Indices]]:
    """Yield index arrays such that any two hashes that differ in at most `NEAR` bits are in one block.

    Two such hashes agree entirely in one of `NEAR + 1` bands of bits, so only hashes that share a band are compared:
    the time grows about linearly with their number, unless most are alike. Plain images, and images with bars at the
    sides, share most bands with all others of their set: what is near the set's usual hash is compared once.
    """
    if not len(hashes) or not len(others):
        return
    usual = others.mean(axis=0) > 0.5
    plain, other_plain = ((each != usual).sum(axis=1) <= _USUAL for each in (hashes, others))
    yield from _parts(np.flatnonzero(plain), np.flatnonzero(other_plain))
    # Bits drawn from all over the image: neighbouring bits are equal in all images with a plain background.
    for band in np.array_split(np.random.default_rng(0).permutation(hashes.shape[1]), NEAR + 1):
        powers = 1 << np.arange(len(band))
        keys = np.concatenate([each[:, band] @ powers for each in (hashes, others)])
        order = np.argsort(keys, kind="stable")
        ends = np.append(np.flatnonzero(np.diff(keys[order])) + 1, len(order))
        # Small buckets that follow one another are compared in one block.
        cuts = np.unique(ends[np.searchsorted(ends, np.arange(_ROWS_AT_ONCE, len(order), _ROWS_AT_ONCE))])
        for members in np.split(order, cuts):
            rows, columns = members[members < len(hashes)], members[members >= len(hashes)] - len(hashes)
            yield from _parts(rows[~plain[rows]], columns)
            yield from _parts(rows[plain[rows]], columns[~other_plain[columns]])


def _parts(rows: Indices, columns: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Yield parts of a block that need little memory."""
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        for left in range(0, len(columns), _COLUMNS_AT_ONCE):
            yield rows[start : start + _ROWS_AT_ONCE], columns[left : left + _COLUMNS_AT_ONCE]


def _different_bits(hashes: Hashes, others: Hashes) -> Indices:
    """Return `(n, m)` numbers of bits in which hashes differ."""
    # The scalar product of two vectors of +1 and -1 is bits - 2 * (number of differences).
    signs, other_signs = (np.where(each, np.float32(1), np.float32(-1)) for each in (hashes, others))
    bits: Indices = ((hashes.shape[1] - signs @ other_signs.T) / 2).astype(np.int64)
    return bits


def _keep_alike(wanted: NDArray[np.bool_], prints: Fingerprints, others: Fingerprints) -> None:
    """Set the wanted pairs `(n, m)` of images that do not look alike to False."""
    rows, columns = np.flatnonzero(wanted.any(axis=1)), np.flatnonzero(wanted.any(axis=0))
    if len(rows):
        wanted[np.ix_(rows, columns)] &= look_alike(prints[rows], others[columns])
