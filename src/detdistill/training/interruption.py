"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from detdistill.core.errors import DetdistillError
from detdistill.training.module import DetectorTraining

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(DetdistillError):  # noqa: N818, nothing went wrong
    """A run that was stopped and saved.

    Attributes:
        exit_status: 130 after Ctrl-C, 143 after SIGTERM, as the shell counts them.
    """

    def __init__(self, signal_number: int, where: str) -> None:
        name = "Ctrl-C" if signal_number == signal.SIGINT else signal.Signals(signal_number).name
        super().__init__(f"stopped by {name} {where}; everything is saved: the same command goes on from there")
        self.exit_status = 128 + signal_number


class Interruption(Callback):
    """Turns the first signal into a request that the training step passes on to all processes.

    A second one stops at once.

    Attributes:
        signal_number: the one that was caught, SIGTERM where another process caught it.
    """

    def __init__(self) -> None:
        self.signal_number: int = signal.SIGTERM
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the place of pytorch-lightning's handler, which can hang with several processes."""
        assert isinstance(pl_module, DetectorTraining)

        def request(number: int, _: FrameType | None) -> None:
            self.signal_number = number
            pl_module.stop_requested = True
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
            if pl_module.evaluating:
                raise self.stopped(trainer)

        for number in SIGNALS:
            self._before[number] = signal.signal(number, request)

    def stopped(self, trainer: Trainer) -> Interrupted:
        """What to raise once everything is saved."""
        return Interrupted(self.signal_number, f"after step {trainer.global_step}")

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Puts the handlers back."""
        self._restore()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Puts the handlers back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
