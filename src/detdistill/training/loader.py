"""Training batches that a resumed run takes up where it stopped."""

from __future__ import annotations

import signal
from collections.abc import Iterator

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from detdistill.data.batching import TrainingBatches
from detdistill.data.loading import Batch

GRACE = 60
"""Seconds that a loading process outlives SIGTERM: the training process needs its batch to finish the step."""


class ResumableBatches:
    """The batches of a `training_loader`, from any batch of any epoch on; `len` is the number in an epoch."""

    def __init__(self, loader: DataLoader[Batch]) -> None:
        assert isinstance(loader.batch_sampler, TrainingBatches)
        self._loader, self._sampler = loader, loader.batch_sampler
        # Ctrl-C and many batch systems signal all processes of a run.
        loader.worker_init_fn = _outlive_signals

    def __len__(self) -> int:
        return len(self._loader)

    def of_epoch(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield the batches of an epoch, both counted from 0, from the batch `start` on."""
        self._sampler.set_epoch(epoch, start=start)
        yield from self._loader

    def close(self) -> None:
        """End the loading processes."""
        workers = self._loader._iterator
        if isinstance(workers, _MultiProcessingDataLoaderIter):
            workers._shutdown_workers()
        self._loader._iterator = None


def _outlive_signals(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Not ignored for good: the interpreter ends its children with SIGTERM and waits for them.
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(GRACE))
