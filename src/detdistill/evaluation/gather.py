"""Exact scores of an evaluation that several processes share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import numpy as np

from detdistill.core.distributed import computed_once
from detdistill.core.errors import DetdistillError
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
    return computed_once(own, lambda shares: score(_join(shares)))


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
