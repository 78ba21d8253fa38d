"""How far a student has come from where it started towards its teacher."""

from __future__ import annotations

LEAST_GAP = 0.02
"""AP, 0 to 1, between start and teacher: shares of a narrower gap are noise over noise."""


def share_closed(ap: float, *, start: float, teacher: float) -> float | None:
    """The share of the way from `start` to the teacher; 1 is all of it, below 0 is a step back.

    Args:
        ap: of the student, 0 to 1.
        start: AP that it is measured from, such as that of the student alone.
        teacher: AP of its teacher.

    Returns:
        None where the teacher is less than `LEAST_GAP` ahead of the start.
    """
    return (ap - start) / (teacher - start) if teacher - start >= LEAST_GAP else None
