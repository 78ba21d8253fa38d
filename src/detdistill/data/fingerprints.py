"""Images in 320 numbers each, and which of them look alike."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detdistill.core.errors import DataError
from detdistill.core.images import Size, read_image
from detdistill.core.parallel import work_through

Floats = NDArray[np.float32]
Fingerprints = NDArray[np.uint8]
"""`(n, 320)` uint8: the grey levels of 16 x 17 cells row by row, then the RGB colours of 4 x 4 cells."""

_SIDE, _COLOUR_SIDE = 16, 4
_GREYS = _SIDE * (_SIDE + 1)
SIZE = _GREYS + 3 * _COLOUR_SIDE**2

# Measured on 7,457 copies of photographs and scenes (resized, compressed, of another brightness or contrast, cropped by
# 2 %, with noise) with near hashes: all but 6 have larger cosines in both directions. Of 1.7 million pairs of
# photographs with black bars over three quarters of each image, 800,000 have near hashes, and 32 such cosines; 14 of
# these are near-duplicates without bars.
_LEAST_COSINE = 0.85
# Norms and distances in grey levels. Rounding and compression move gradients by up to 20 and fingerprints by up to 15;
# a change of every value by one level is 21.5.
_LEAST_NORM = 32.0
_LARGEST_CHANGE = 24.0

_FILES_AT_ONCE = 16


def fingerprint(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return one row of `Fingerprints`.

    Args:
        image: `(H, W, 3)` uint8 RGB.
    """
    pixels = Image.fromarray(image)
    grey = pixels.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
    colour = pixels.resize((_COLOUR_SIDE, _COLOUR_SIDE), Image.Resampling.BOX)
    return np.concatenate([np.asarray(grey).reshape(-1), np.asarray(colour).reshape(-1)])


def read_fingerprints(files: Sequence[tuple[str, Size | None]]) -> tuple[Fingerprints, dict[int, DataError]]:
    """Decode image files, many by several processes, and show progress.

    Args:
        files: Paths, each with the height and width in `read_image`.

    Returns:
        The fingerprints, zeros for a file that cannot be decoded, and the errors of these files by their index.
    """
    prints = np.zeros((len(files), SIZE), np.uint8)
    unreadable: dict[int, DataError] = {}
    for index, found in enumerate(work_through(files, _read, "comparing images", block=_FILES_AT_ONCE)):
        if isinstance(found, DataError):
            unreadable[index] = found
        else:
            prints[index] = found
    return prints, unreadable


def difference_hashes(prints: Fingerprints) -> NDArray[np.bool_]:
    """Return `(n, 256)` bits: whether each grey cell is darker than its right neighbour (Krawetz 2013)."""
    grey = prints[:, :_GREYS].reshape(-1, _SIDE, _SIDE + 1)
    return (grey[:, :, :-1] < grey[:, :, 1:]).reshape(-1, _SIDE**2)


def look_alike(prints: Fingerprints, others: Fingerprints) -> NDArray[np.bool_]:
    """Compare contrasts, or colours where there is no contrast: equal hashes of plain images do not mean equal images.

    Two images look alike if no colour differs noticeably, or if their gradients agree in both directions up to one
    factor each, as after a change of brightness. One direction alone does not suffice: bars at the sides or above and
    below, where many images are alike, have strong gradients in the other one.

    Args:
        prints: `(n, 320)`.
        others: `(m, 320)`.

    Returns:
        `(n, m)` bool.
    """
    # Sums of products of such integers are exact in float32.
    centred, other_centred = (each.astype(np.float32) - 128 for each in (prints, others))
    equal = _squared_distances(centred, other_centred, centred @ other_centred.T) <= _LARGEST_CHANGE**2
    agree, shown = np.ones_like(equal), np.zeros_like(equal)
    for axis in (1, 2):
        gradients, other_gradients = (_gradients(each, axis) for each in (prints, others))
        norms, other_norms = (
            np.maximum(np.linalg.norm(each, axis=1), _LEAST_NORM) for each in (gradients, other_gradients)
        )
        products = gradients @ other_gradients.T
        same = products >= _LEAST_COSINE * norms[:, None] * other_norms
        agree &= same | (_squared_distances(gradients, other_gradients, products) <= _LARGEST_CHANGE**2)
        shown |= same
    return equal | (agree & shown)


def _gradients(prints: Fingerprints, axis: int) -> Floats:
    """Return `(n, 256)` differences of grey cells to the right (axis 2), or `(n, 255)` downwards (axis 1)."""
    grey = prints[:, :_GREYS].reshape(-1, _SIDE, _SIDE + 1).astype(np.float32)
    gradients = np.diff(grey, axis=axis)
    return gradients.reshape(len(gradients), gradients.shape[1] * gradients.shape[2])


def _squared_distances(rows: Floats, others: Floats, products: Floats) -> Floats:
    """Return `(n, m)` squared distances of `(n, k)` and `(m, k)`, of which `products` are the scalar products."""
    squares, other_squares = ((each * each).sum(axis=1) for each in (rows, others))
    distances: Floats = squares[:, None] + other_squares - 2 * products
    return distances


def _read(file: tuple[str, Size | None]) -> NDArray[np.uint8] | DataError:
    path, size = file
    try:
        return fingerprint(read_image(Path(path), size))
    except DataError as error:
        return error
