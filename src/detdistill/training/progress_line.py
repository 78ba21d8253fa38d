"""How far a run is: a live line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from detdistill.core.console import print_err
from detdistill.core.distributed import is_first_process
from detdistill.core.texts import clock
from detdistill.training.recipe import Recipe


class ProgressLine:
    """Epoch, images per second, remaining time and every loss, on standard error, in the first process.

    Args:
        recipe: Of the run.
        step: The step after which this process starts: what was before has no speed.
        total: Steps of the run.
        steps_per_epoch: Steps of an epoch.
    """

    def __init__(self, recipe: Recipe, step: int, total: int, steps_per_epoch: int) -> None:
        self._recipe, self._first, self._total, self._per_epoch = recipe, step, total, steps_per_epoch
        self._console = Console(stderr=True)
        columns = TextColumn("{task.description}", markup=False), BarColumn(bar_width=20)
        self._live = Progress(*columns, console=self._console, transient=True, refresh_per_second=2)
        self._task = self._live.add_task("the first step", total=total, completed=step)
        self._step = step
        self._seconds = self._since = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pause()

    def go_on(self) -> None:
        """Count time from here; that which goes into saving and scoring does not count."""
        self._since = time.perf_counter()
        if is_first_process() and self._console.is_terminal:
            self._live.start()

    def pause(self) -> None:
        """Let the line make room for other output."""
        if self._live.live.is_started:
            self._live.stop()

    def update(self, step: int, losses: Mapping[str, float]) -> None:
        """Show a step that is done.

        Args:
            step: Its number, from 1.
            losses: Terms of the loss, of all processes.
        """
        self._step = step
        now = time.perf_counter()
        self._seconds, self._since = self._seconds + now - self._since, now
        if not is_first_process():
            return
        if self._console.is_terminal:
            self._live.update(self._task, completed=step, description=self._line(step, losses))
        elif step % self._recipe.logging.every == 0:
            print_err(self._line(step, losses))

    @property
    def remaining(self) -> float | None:
        """Seconds until the last step at the speed so far; None before the first step."""
        return (self._total - self._step) * self._seconds / self._done if self._done else None

    @property
    def _done(self) -> int:
        return self._step - self._first

    def _line(self, step: int, losses: Mapping[str, float]) -> str:
        speed = self._done * self._recipe.batch_size / max(self._seconds, 1e-9)
        terms = ", ".join(f"{name} {value:.3f}" for name, value in losses.items())
        return (
            f"epoch {-(-step // self._per_epoch)}/{self._recipe.schedule.epochs}, step {step}/{self._total}, "
            f"{speed:.1f} images/s, {clock(self.remaining or 0)} left, loss {sum(losses.values()):.3f} ({terms})"
        )
