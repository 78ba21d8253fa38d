"""Processes that share the images of a data set, as torchrun starts them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist


@contextmanager
def sharing_images() -> Iterator[None]:
    """Joins this process with the others that torchrun started; alone, there is nothing to do.

    `predict` and `score` then share the images. Only results are exchanged, which gloo does on every machine.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
