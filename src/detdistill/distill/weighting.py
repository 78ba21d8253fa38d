"""How much each term counts beside the detection loss, over the steps of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, get_args

from detdistill.core.errors import DetdistillError

Decay = Literal["none", "linear", "cosine"]

USUAL_RATIO = 0.5
"""Of methods that say no other."""
CALIBRATION_STEPS = 50
"""Steps after the warm-up in which gradients are measured; at most a tenth of the run."""
MEASURED_EVERY = 5
RECENT = 3
"""Measurements whose median is the weight until it is fixed."""


@dataclass(frozen=True)
class Weight:
    """How much a term counts.

    Attributes:
        value: the weight, at least 0; None finds it: so that the term's gradient is `ratio` times as long as the
            detection loss's.
        ratio: of the two gradients' lengths, with respect to the student's pyramid features; above 0. None for the
            method's own.
        decay: to 0 over the run, linearly or as a cosine; `none` keeps the weight.
        ramp: share of the run, 0 to 1, in which the weight rises linearly from 0.

    Raises:
        DetdistillError: a value that cannot be.
    """

    value: float | None = None
    ratio: float | None = None
    decay: Decay = "none"
    ramp: float = 0.0

    def __post_init__(self) -> None:
        if self.value is not None and not (_is_number(self.value) and self.value >= 0):
            raise DetdistillError(f"weight must be a number of at least 0, not {self.value!r}")
        if self.ratio is not None and not (_is_number(self.ratio) and self.ratio > 0):
            raise DetdistillError(f"ratio must be a number above 0, not {self.ratio!r}")
        if self.decay not in get_args(Decay):
            raise DetdistillError(f"decay must be one of {', '.join(get_args(Decay))}, not {self.decay!r}")
        if not (_is_number(self.ramp) and 0 <= self.ramp <= 1):
            raise DetdistillError(f"ramp must be a number from 0 to 1, not {self.ramp!r}")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


@dataclass
class TermWeight:
    """The weight of one term in the course of a run.

    An automatic weight is measured every few steps, follows the latest measurements, and grows from 0 with the warm-up;
    the median of the measurements after the warm-up stays. It must follow: a new detector's gradients say little about
    those of 20 steps later. A weight of the first step alone was 20 times too large then, and drowned the detection
    loss for as long as the warm-up lasted.

    Attributes:
        options: how much the term counts.
        value: the weight, without ramp and decay; 0 before the first measurement.
        is_fixed: it will not change any more.
        recent: the automatic weights that the latest measured steps gave.
        measured: those that the steps of the calibration gave.
    """

    options: Weight
    value: float = 0.0
    is_fixed: bool = False
    recent: list[float] = field(default_factory=list)
    measured: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        """A given number is used as it is."""
        if self.options.value is not None:
            self.value, self.is_fixed = self.options.value, True

    @property
    def ratio(self) -> float:
        """Of the two gradients' lengths."""
        return USUAL_RATIO if self.options.ratio is None else self.options.ratio

    def measure(self, detection: float, term: float, *, calibrating: bool) -> None:
        """Takes in the lengths of two gradients; a term without a gradient, as without objects, tells nothing.

        Args:
            detection: of the detection loss.
            term: of the raw term.
            calibrating: the step belongs to the calibration after the warm-up.
        """
        if self.is_fixed or not (math.isfinite(detection) and math.isfinite(term)) or term <= 0:
            return
        weight = self.ratio * detection / term
        if calibrating:
            self.measured.append(weight)
        self.recent = [*self.recent, weight][-RECENT:]

    def settle(self, *, is_over: bool) -> None:
        """Makes a weight of the measurements so far.

        Args:
            is_over: the calibration is: the weight stays, if anything was measured in it.
        """
        if self.is_fixed or not self.recent:
            return
        self.is_fixed = is_over and bool(self.measured)
        self.value = median(self.measured if self.is_fixed else self.recent)


class Weighting:
    """The weights of all terms in the course of a run.

    Args:
        weights: by term.
    """

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self.terms = {name: TermWeight(weight) for name, weight in weights.items()}
        self._step, self._total, self._warmup = 0, 1, 0
        self._has_begun = False

    def begin_step(self, step: int, total: int, warmup: int) -> None:
        """Says where in the run the next step is; what was measured before counts from now on.

        Args:
            step: 0 to `total` - 1.
            total: steps of the run.
            warmup: steps in which the learning rate grows.
        """
        self._step, self._total, self._warmup = step, total, warmup
        self._has_begun = True
        for weight in self.terms.values():
            weight.settle(is_over=step >= warmup + self._window)

    @property
    def _automatic(self) -> dict[str, TermWeight]:
        return {name: term for name, term in self.terms.items() if term.options.value is None}

    @property
    def _window(self) -> int:
        return max(1, min(CALIBRATION_STEPS, self._total // 10))

    @property
    def is_calibrating(self) -> bool:
        """The step lies behind the warm-up."""
        return self._step >= self._warmup

    @property
    def is_measuring(self) -> bool:
        """The lengths of the gradients are wanted in this step."""
        waiting = [weight for weight in self.terms.values() if not weight.is_fixed]
        if any(weight.value == 0 for weight in waiting):
            return True
        return bool(waiting) and (self._step - self._warmup) % MEASURED_EVERY == 0

    def measure(self, detection: float, terms: Mapping[str, float]) -> None:
        """Takes in the lengths of the gradients of a step, with respect to the student's pyramid features.

        Args:
            detection: of the detection loss.
            terms: of each raw term.
        """
        for name, length in terms.items():
            self.terms[name].measure(detection, length, calibrating=self.is_calibrating)

    def weight(self, name: str) -> float:
        """What a term is multiplied by in this step.

        Raises:
            DetdistillError: it depends on the step, and `begin_step` was never called.
        """
        term = self.terms[name]
        options = term.options
        if not self._has_begun and (options.value is None or options.decay != "none" or options.ramp):
            raise DetdistillError(
                f"the weight of {name} depends on the step: call begin_step(step, total, warmup) before each step and "
                f"end_step() after its backward pass, or give a number: weights={{{name!r}: Weight(1.0)}}"
            )
        warmup = 1.0 if options.value is not None or self.is_calibrating else self._step / self._warmup
        progress = self._step / self._total
        ramp = min(1.0, progress / options.ramp) if options.ramp else 1.0
        decay = {"none": 1.0, "linear": 1 - progress, "cosine": (1 + math.cos(math.pi * progress)) / 2}
        return term.value * warmup * ramp * decay[options.decay]

    def state(self) -> dict[str, dict[str, Any]]:
        """What a resumed run must know of the automatic weights, in plain types."""
        return {
            name: {
                "value": term.value,
                "is_fixed": term.is_fixed,
                "recent": list(term.recent),
                "measured": list(term.measured),
            }
            for name, term in self._automatic.items()
        }

    def load(self, state: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes up the state of the run before; a weight that it did not find is still to be found."""
        for name in self._automatic.keys() & state.keys():
            term, values = self.terms[name], state[name]
            term.value, term.is_fixed = values["value"], values["is_fixed"]
            term.recent, term.measured = list(values["recent"]), list(values["measured"])
