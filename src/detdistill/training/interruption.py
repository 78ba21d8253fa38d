"""Ctrl-C and SIGTERM: finish the step, save, say how to go on."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Self

from detdistill.core.errors import DetdistillError

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(DetdistillError):  # noqa: N818, nothing went wrong
    """A run that was stopped and saved.

    Attributes:
        exit_status: 130 after Ctrl-C, 143 after SIGTERM, as the shell counts them.
    """

    def __init__(self, signal_number: int, step: int) -> None:
        name = "Ctrl-C" if signal_number == signal.SIGINT else signal.Signals(signal_number).name
        super().__init__(
            f"stopped by {name} after step {step}; everything is saved: the same command goes on from there"
        )
        self.exit_status = 128 + signal_number


class Interruption:
    """While it is entered, the first Ctrl-C or SIGTERM is a request that the training loop looks at after each step.

    A second signal acts as usual. In other threads than the main one, signals are left alone.

    Attributes:
        requested: A signal has come.
        signal_number: The one that came; SIGTERM where another process got it.
    """

    def __init__(self) -> None:
        self.requested = False
        self.signal_number: int = signal.SIGTERM
        self._saved_step: int | None = None
        self._before: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._request) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def stopped(self, step: int) -> Interrupted:
        """Return what to raise once everything up to a step is saved."""
        return Interrupted(self.signal_number, step)

    @contextmanager
    def at_once(self, step: int) -> Iterator[None]:
        """While it lasts, a signal raises `Interrupted`: everything up to this step is saved already."""
        self._saved_step = step
        try:
            yield
        finally:
            self._saved_step = None

    def _request(self, number: int, _: FrameType | None) -> None:
        self.signal_number = number
        self.requested = True
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        if self._saved_step is not None:
            raise self.stopped(self._saved_step)
