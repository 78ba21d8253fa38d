"""A batch worked through in parts, with the gradient of the whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from detdistill.core.structures import ReduceSum
from detdistill.data.loading import Batch
from detdistill.data.sampling import even_shares

Losses = Callable[[Batch, ReduceSum], dict[str, Tensor]]
"""Named terms of a batch; each is a sum over what `reduce_sum` returned for its normaliser."""


def split(batch: Batch, parts: int) -> list[Batch]:
    """Cut a batch into parts of nearly equally many images, all on the canvas of the whole; none is empty."""
    count = len(batch.indices)
    return [_images(batch, share.start, share.stop) for share in even_shares(count, min(parts, count))]


def _images(batch: Batch, start: int, stop: int) -> Batch:
    return replace(
        batch,
        images=batch.images[start:stop],
        targets=batch.targets.of_images(start, stop),
        indices=batch.indices[start:stop],
        original_sizes=batch.original_sizes[start:stop],
    )


def window_normalizers(parts: Sequence[Batch], losses: Losses, reduce_sum: ReduceSum) -> list[ReduceSum]:
    """What the normalisers of a loss are when they cover all parts, on all processes.

    Some depend on the predictions (GFL weighs by its scores), so they take a forward pass without gradients.

    Args:
        parts: of one batch.
        losses: of one part; it must ask for the same normalisers, in the same order, for every part.
        reduce_sum: over all processes.

    Returns:
        The `reduce_sum` for each part, for one evaluation of its losses.
    """
    asked: list[list[Tensor]] = []
    for part in parts:
        counts: list[Tensor] = []

        def record(value: Tensor, counts: list[Tensor] = counts) -> Tensor:
            counts.append(value.detach())
            return value

        with torch.no_grad():
            losses(part, record)
        asked.append(counts)
    totals = [reduce_sum(torch.stack(values).sum(dim=0)) for values in zip(*asked, strict=True)]
    return [_handing_out(iter(totals)) for _ in parts]


def _handing_out(totals: Iterator[Tensor]) -> ReduceSum:
    return lambda _: next(totals)
