"""How far a run is: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from detdistill.training.module import DetectorTraining


class ProgressLine(Callback):
    """Epoch, images per second, remaining time and every loss, on standard error."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=20)
        self._live = Progress(*columns, console=self._console, transient=True, refresh_per_second=2)
        self._first_step = 0
        self._seconds = 0.0
        self._since = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Counts from here: a resumed run's past has no speed. One that goes on inside an epoch does not start it."""
        self._first_step = trainer.global_step
        self._live.add_task("", total=trainer.estimated_stepping_batches, completed=trainer.global_step)
        self._go_on(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Time that goes into saving and scoring does not count."""
        self._go_on(trainer)

    def _go_on(self, trainer: Trainer) -> None:
        self._since = time.perf_counter()
        if trainer.is_global_zero and self._console.is_terminal:
            self._live.start()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        """One step further."""
        assert isinstance(pl_module, DetectorTraining)
        now = time.perf_counter()
        self._seconds, self._since = self._seconds + now - self._since, now
        if not trainer.is_global_zero:
            return
        if self._console.is_terminal:
            (task,) = self._live.task_ids
            self._live.update(task, completed=trainer.global_step, description=self.line(trainer, pl_module))
        elif trainer.global_step % pl_module.recipe.logging.every == 0:
            print(self.line(trainer, pl_module), file=sys.stderr, flush=True)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """The line makes room for the scores."""
        self._pause()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:  # noqa: ARG002
        """Gives the terminal back."""
        self._pause()

    def _pause(self) -> None:
        if self._live.live.is_started:
            self._live.stop()

    def line(self, trainer: Trainer, module: DetectorTraining) -> str:
        """What is to be said after a step."""
        done = trainer.global_step - self._first_step
        speed = done * module.recipe.batch_size / max(self._seconds, 1e-9)
        remaining = (trainer.estimated_stepping_batches - trainer.global_step) * self._seconds / max(done, 1)
        losses = ", ".join(f"{name} {value:.3f}" for name, value in module.losses.items())
        return (
            f"epoch {trainer.current_epoch + 1}/{module.recipe.schedule.epochs}, step {trainer.global_step}/"
            f"{trainer.estimated_stepping_batches}, {speed:.1f} images/s, {_clock(remaining)} left, "
            f"loss {sum(module.losses.values()):.3f} ({losses})"
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
