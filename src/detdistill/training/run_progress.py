"""How far a run is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Progress:
    """A run at some moment.

    Attributes:
        state: `training`, `interrupted` (it can be resumed) or `finished`.
        epoch: number of epochs trained.
        step: number of steps trained.
        total_steps: steps of the whole schedule.
        seconds: time that this process took so far.
        remaining: seconds until the end at the present speed; None where it is not known.
        teacher_ap: AP of the teacher on the validation set, 0 to 1; None without a teacher or a validation set.
    """

    state: Literal["training", "interrupted", "finished"]
    epoch: int
    step: int
    total_steps: int
    seconds: float
    remaining: float | None = None
    teacher_ap: float | None = None
