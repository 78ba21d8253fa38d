"""The second set's cases of two-stage detectors as this package has them."""

from __future__ import annotations

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from detdistill.core.grid import Grid
from detdistill.core.structures import Targets
from detdistill.detectors.dense.priors import PriorLayout, anchor_boxes
from detdistill.detectors.two_stage.proposals import Proposals

Arrays = dict[str, NDArray[Any]]


def tensor(array: NDArray[Any]) -> Tensor:
    """In float64 where it is of floats."""
    values = torch.from_numpy(array)
    return values.double() if values.is_floating_point() else values


def levels(vectors: Arrays, name: str) -> list[Tensor]:
    """The maps `name_l0`, `name_l1` and so on."""
    count = sum(1 for key in vectors if key.startswith(f"{name}_l") and key.removeprefix(f"{name}_l").isdigit())
    return [tensor(vectors[f"{name}_l{number}"]) for number in range(count)]


def per_image(vectors: Arrays, name: str) -> list[Tensor]:
    """The arrays `name_img0`, `name_img1` and so on."""
    return [tensor(vectors[f"{name}_img{number}"]) for number in range(len(vectors["img_hw"]))]


def objects(vectors: Arrays, empty: tuple[int, ...] = ()) -> Targets:
    """The objects of a case, in float64; images in `empty` have none, and all are of class 0 where there are none."""
    boxes = per_image(vectors, "gt_boxes")
    if "gt_labels_img0" in vectors:
        labels = per_image(vectors, "gt_labels")
    else:
        labels = [torch.zeros(len(each), dtype=torch.int64) for each in boxes]
    boxes, labels = (
        [each[:0] if number in empty else each for number, each in enumerate(values)] for values in (boxes, labels)
    )
    return Targets.from_images(boxes, labels, torch.from_numpy(vectors["img_hw"]))


def anchor_grid(vectors: Arrays) -> Grid:
    """The anchors of a region proposal network."""
    strides = vectors["strides"].tolist()
    sizes = [(int(height), int(width)) for height, width in vectors["feat_sizes"]]
    return PriorLayout(strides, anchor_boxes(strides, (8.0,), (0.5, 1.0, 2.0))).grid(sizes, torch.device("cpu"))


def listed(boxes: list[Tensor]) -> Proposals:
    """Boxes of each image as proposals."""
    image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(each) for each in boxes]))
    joined = torch.cat(boxes)
    return Proposals.listed(joined, joined.new_ones(len(joined)), image, len(boxes))


def regions(rois: NDArray[Any]) -> tuple[Tensor, Tensor]:
    """Boxes `(K, 4)` and the image `(K,)` of each, from rows that begin with the image."""
    rows = tensor(rois)
    return rows[:, 1:], rows[:, 0].long()
