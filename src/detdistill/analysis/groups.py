"""Groups of objects whose means are shown side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from detdistill.analysis.error_types import MEDIUM, SMALL
from detdistill.analysis.pairing import crowding
from detdistill.analysis.tally import Group
from detdistill.data.loading import Batch

CROWDED = 0.3
"""IoU with another object from which an object stands in a crowd."""
ALL = "all", "objects"
KINDS = ("all", "size", "crowding", "class")
"""Kinds of groups, as they are shown."""

Means = Mapping[str, float | None]


def object_groups(batch: Batch, classes: Sequence[str]) -> dict[Group, Tensor]:
    """Return `(G,)` bool for each group: which objects of a batch belong to it.

    Args:
        batch: the images, with labels of these classes.
        classes: names.
    """
    targets = batch.targets
    scale = (batch.original_sizes.to(targets.boxes.device) / targets.sizes).prod(dim=1)[targets.image]
    area = (targets.boxes[:, 2:] - targets.boxes[:, :2]).prod(dim=1) * scale
    nearest = crowding(targets)
    return {
        ALL: torch.ones_like(targets.labels, dtype=torch.bool),
        **{("class", name): targets.labels == label for label, name in enumerate(classes)},
        ("size", "small"): area < SMALL,
        ("size", "medium"): (area >= SMALL) & (area < MEDIUM),
        ("size", "large"): area >= MEDIUM,
        ("crowding", "alone"): nearest == 0,
        ("crowding", "touching another"): (nearest > 0) & (nearest < CROWDED),
        ("crowding", "crowded"): nearest >= CROWDED,
    }


def in_order(table: Mapping[Group, Means]) -> Iterator[tuple[str, Means]]:
    """Yield the rows of `Tally.table` as they are shown, each with its name."""
    for (kind, name), values in sorted(table.items(), key=lambda item: KINDS.index(item[0][0])):
        yield f"{kind} {name}" if kind in ("all", "class") else name, values
