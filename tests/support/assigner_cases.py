"""Batches that assigners find hard, and grids read off golden vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.structures import Targets

Arrays = dict[str, NDArray[Any]]

# Halves make distances and overlaps tie; the far ends lie outside of every canvas drawn here.
coordinates = st.one_of(
    st.integers(-20, 260).map(lambda doubled: doubled / 2),
    st.floats(-30, 160, width=32),
    st.sampled_from([-2000.0, -0.5, 0.0, 64.0, 128.0, 3000.0]),
)
sides = st.one_of(
    st.sampled_from([0.0, 0.25, 1.0, 8.0, 16.0, 32.0, 64.0, 128.0, 4000.0]), st.floats(2**-7, 200, width=32)
)


@st.composite
def batches(draw: st.DrawFn, max_images: int = 3, max_objects: int = 6) -> Targets:
    """Images with tiny, huge, overlapping, equal, outside and no objects at all."""
    images = draw(st.integers(1, max_images))
    drawn = draw(st.lists(st.tuples(coordinates, coordinates, sides, sides), max_size=max_objects))
    places = draw(st.lists(st.integers(0, images - 1), min_size=len(drawn), max_size=len(drawn)))
    twice = draw(st.booleans())
    if drawn and twice:
        drawn.append(drawn[0])
        places.append(places[0])
    boxes = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in drawn]).reshape(-1, 4)
    image, order = torch.tensor(places, dtype=torch.int64).sort(stable=True)
    return Targets(boxes[order], torch.zeros(len(drawn), dtype=torch.int64), image, torch.full((images, 2), 128))


@st.composite
def grids(draw: st.DrawFn, base_anchors: Sequence[Sequence[tuple[float, float]]], offset: float = 0) -> Grid:
    """Lattices of up to three levels, with square and other steps, some of one row or one cell.

    Args:
        draw: given by hypothesis.
        base_anchors: per drawn level, the sides (width, height) of its anchors in steps.
        offset: of the anchors' centre from the cell's upper left corner, in steps.
    """
    steps = draw(st.lists(st.sampled_from([(8, 8), (16, 16), (32, 32), (53, 80)]), min_size=1, max_size=3))
    shapes = draw(st.sampled_from(base_anchors))
    sizes = tuple((draw(st.integers(1, 14)), draw(st.integers(1, 14))) for _ in steps)
    levels = []
    for step_y, step_x in steps:
        own = shapes[: draw(st.integers(1, len(shapes)))]
        corners = [(offset - w / 2, offset - h / 2, offset + w / 2, offset + h / 2) for w, h in own]
        levels.append(torch.tensor(corners) * torch.tensor([step_x, step_y, step_x, step_y]))
    return Grid(sizes, tuple(steps), tuple(levels))


def single(boxes: Tensor) -> Targets:
    """One image with these objects."""
    zeros = torch.zeros(len(boxes), dtype=torch.int64)
    return Targets(boxes, zeros, zeros, torch.tensor([[128, 128]]))


def select_images(targets: Targets, images: Sequence[int]) -> tuple[Targets, Tensor]:
    """A batch of some of the images, in the order given, and where its objects were in `targets`."""
    index = torch.cat([(targets.image == image).nonzero().flatten() for image in images])
    image = torch.cat([torch.full((int((targets.image == old).sum()),), new) for new, old in enumerate(images)])
    return Targets(targets.boxes[index], targets.labels[index], image, targets.sizes[list(images)]), index


def renamed(matched: Tensor, index: Tensor) -> Tensor:
    """The same assignment with the objects' indices looked up in `index`."""
    return torch.where(matched >= 0, torch.cat((index, index.new_zeros(1)))[matched], matched)


def lattice_of_priors(priors: NDArray[Any], feat_sizes: NDArray[Any]) -> Grid:
    """The grid whose priors these are: steps and base anchors are read off neighbouring cells."""
    flat = torch.from_numpy(priors)
    sizes = [(height, width) for height, width in feat_sizes.tolist()]
    anchors = len(flat) // sum(height * width for height, width in sizes)
    strides, base, start = [], [], 0
    for height, width in sizes:
        level = flat[start : start + height * width * anchors].view(height, width, anchors, flat.shape[1])
        step_y = round(float(level[1, 0, 0, 1] - level[0, 0, 0, 1])) if height > 1 else 1
        step_x = round(float(level[0, 1, 0, 0] - level[0, 0, 0, 0])) if width > 1 else 1
        strides.append((step_y, step_x))
        base.append(level[0, 0])
        start += height * width * anchors
    return Grid(tuple(sizes), tuple(strides), tuple(base))


def assert_equal_but_ambiguous(matched: Tensor, vectors: Arrays, case: str, suffix: str = "") -> None:
    """Compares one image's assignment with mmdetection's (0 background, -1 ignored, k object k - 1)."""
    reference = torch.from_numpy(vectors[f"{case}{suffix}_assigned_gt"])
    reference = torch.where(reference > 0, reference - 1, torch.where(reference == 0, -1, -2))
    clear = torch.from_numpy(vectors[f"{case}{suffix}_ambiguous"]) == 0
    assert torch.equal(matched[0][clear], reference[clear])


def golden_case(vectors: Arrays, case: str) -> Targets:
    return single(torch.from_numpy(vectors[f"{case}_gt_boxes"]).reshape(-1, 4))


def torchvision_case(vectors: Arrays) -> tuple[Targets, Tensor]:
    """The batch of a `tv_*` file and its `matched_idxs` with indices into the whole batch's objects."""
    sizes = torch.from_numpy(vectors["image_hw"])
    boxes = [torch.from_numpy(vectors[f"gt_boxes_img{image}"]).reshape(-1, 4) for image in range(len(sizes))]
    targets = Targets.from_images(boxes, [torch.zeros(len(each), dtype=torch.int64) for each in boxes], sizes)
    first = torch.tensor(np.cumsum([0, *(len(each) for each in boxes)])[:-1])
    matched = torch.from_numpy(vectors["matched_idxs"])
    return targets, torch.where(matched >= 0, matched + first[:, None], matched)


GOLDEN_CASES = ["nogt", "one", "mixed", "crowd30", "tiny", "thin", "big", "stdprobe"]
