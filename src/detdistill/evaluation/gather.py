"""Exact scores of an evaluation that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import torch.distributed as dist

from detdistill.errors import DetdistillError
from detdistill.evaluation.results import Results

Score = TypeVar("Score")


def score_together(own: Results | DetdistillError, score: Callable[[Results], Score]) -> Score:
    """Scores the detections of all processes once, in process 0, and gives every process the outcome.

    The shares may be uneven or empty. Without `torch.distributed`, or in a run of one process, this is `score(own)`.

    Args:
        own: the detections of this process; no other process may hold some of the same image. Or what kept this
            process from finding them: the others wait for it.
        score: the metric, for example `lambda results: coco_metrics(dataset, results)`.

    Returns:
        What `score` returned for all detections, in every process.

    Raises:
        DetdistillError: an image was evaluated by two processes, or the error that a process brought, in every process.
        Exception: what `score` raised in process 0, in every process.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return score(_join([own]))
    is_first = dist.get_rank() == 0
    shares: list[Results | DetdistillError | None] = [None] * dist.get_world_size()
    dist.gather_object(own, shares if is_first else None)
    outcome: list[Any] = [None, None]
    if is_first:
        # The other processes wait for the outcome: an error must reach them, too.
        try:
            outcome[0] = score(_join([share for share in shares if share is not None]))
        except Exception as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: Score = outcome[0]
    return result


def _join(shares: list[Results | DetdistillError]) -> Results:
    found = []
    for share in shares:
        if isinstance(share, DetdistillError):
            raise share
        found.append(share)
    images, processes = np.unique(np.concatenate([np.unique(share.image) for share in found]), return_counts=True)
    if (processes > 1).any():
        raise DetdistillError(
            f"{np.count_nonzero(processes > 1)} images were evaluated by more than one process, the first at index "
            f"{images[processes > 1][0]}: use a sampler that gives every image to one process and repeats none"
        )
    return Results.join(found)
