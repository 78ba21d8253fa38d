"""What a run has logged in `metrics.jsonl`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detdistill.core.errors import DetdistillError

OTHER_VALUES = ("step", "epoch", "loss", "gradient_norm", "learning_rate")
"""Keys of a line that are no terms of the loss."""

Line = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class History:
    """The lines of a log, oldest first.

    Attributes:
        steps: losses, gradient norm and learning rate.
        scores: evaluations on the validation set.
    """

    steps: Sequence[Line]
    scores: Sequence[Line]

    @property
    def terms(self) -> list[str]:
        """Names of the terms of the loss, those of the distillation last."""
        names = dict.fromkeys(key for line in self.steps for key in line)
        terms = [name for name in names if name not in OTHER_VALUES and "/" not in name]
        return sorted(terms, key=lambda name: f"{name}/weight" in names)

    @property
    def distillation_terms(self) -> list[str]:
        """Names of the terms that have a weight."""
        weighted = {key for line in self.steps for key in line if key.endswith("/weight")}
        return [name for name in self.terms if f"{name}/weight" in weighted]

    @property
    def best(self) -> Line | None:
        """The evaluation with the highest AP, of equals the latest: that of the kept detector."""
        return max(reversed(self.scores), key=ap_of, default=None)

    def by_step(self, key: str) -> list[tuple[float, float]]:
        """Step and value of each line that has a finite value."""
        return _pairs(self.steps, "step", key)

    def by_epoch(self, key: str) -> list[tuple[float, float]]:
        """Epoch and score of each evaluation that has a finite one."""
        return _pairs(self.scores, "epoch", key)


def ap_of(line: Line) -> float:
    """AP of an evaluation, 0 to 1; 0 where there is no object to find."""
    return line["AP"] or 0.0


def read_history(file: Path) -> History:
    """Read `metrics.jsonl`; lines that a kill has torn are left out.

    Args:
        file: may be missing.

    Raises:
        DetdistillError: The file cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror}") from error
    lines = [values for line in text.splitlines() if (values := _values(line)) is not None]
    return History([line for line in lines if "loss" in line], [line for line in lines if "AP" in line])


def _values(line: str) -> Line | None:
    try:
        values = json.loads(line)
    except ValueError:
        return None
    return values if isinstance(values, dict) and {"step", "epoch"} <= values.keys() else None


def _pairs(lines: Sequence[Line], place: str, key: str) -> list[tuple[float, float]]:
    found = [(line[place], line.get(key)) for line in lines]
    return [(float(x), float(y)) for x, y in found if isinstance(y, int | float) and math.isfinite(y)]
