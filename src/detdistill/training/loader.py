"""Training batches that a resumed run takes up where it stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from detdistill.data.batching import TrainingBatches
from detdistill.data.loading import Batch

GRACE = 60
"""Seconds that a loading process outlives SIGTERM: the training process needs its batch to finish the step."""


class ResumableBatches:
    """The batches of a `training_loader`, with the state that pytorch-lightning saves and restores.

    Attributes:
        sampler: pytorch-lightning sets its epoch, but after it has called `iter`: the batches start with the first
            one that is asked for.
    """

    def __init__(self, loader: DataLoader[Batch]) -> None:
        assert isinstance(loader.batch_sampler, TrainingBatches)
        self.loader, self.sampler = loader, loader.batch_sampler
        # Ctrl-C and many batch systems signal all processes of a run.
        loader.worker_init_fn = _outlive_signals
        self.given = 0

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Batch]:
        self.sampler.set_epoch(self.sampler.epoch, start=self.given)
        for batch in self.loader:
            # Counted beforehand: a checkpoint is written while the loop holds the batch. After the last one it is 0.
            self.given = (self.given + 1) % len(self)
            yield batch

    def close(self) -> None:
        """Ends the loading processes."""
        workers = self.loader._iterator
        if isinstance(workers, _MultiProcessingDataLoaderIter):
            workers._shutdown_workers()
        self.loader._iterator = None

    def state_dict(self) -> dict[str, Any]:
        """How many batches of the epoch were given."""
        return {"given": self.given}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The next iteration starts after these batches."""
        self.given = state["given"]


def _outlive_signals(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not ignored for good: the interpreter ends its children with SIGTERM and waits for them.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
