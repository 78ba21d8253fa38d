"""Hypothesis strategies for boxes."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor


@st.composite
def boxes(draw: st.DrawFn, count: int = 8, smallest_side: float = 0.0, largest_side: float = 2000.0) -> Tensor:
    """`(count, 4)` float64 boxes in and around an image, with sides from `smallest_side` to `largest_side` pixels.

    Corners and sides are whole 64ths of a pixel, so that shifted and scaled boxes are exact.
    """
    corners = draw(arrays(np.int64, (count, 2), elements=st.integers(-64 * 500, 64 * 2000)))
    lengths = st.integers(round(64 * smallest_side), round(64 * largest_side))
    sides = draw(arrays(np.int64, (count, 2), elements=lengths))
    return torch.from_numpy(np.concatenate((corners, corners + sides), axis=1) / 64.0)
