"""What a run has logged in `metrics.jsonl`."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from detdistill.core.errors import DetdistillError
from detdistill.core.files import read_regular

NO_TERMS = ("step", "epoch", "loss", "gradient_norm", "learning_rate")
"""Keys of a line that are no terms of the loss."""

Line = Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class History:
    """The lines of a log.

    Attributes:
        lines: number of lines with losses, gradient norm and learning rate.
        by_step: `(n, 2)` step and value of each line that has a finite one, by the key of the value.
        scores: evaluations on the validation set, oldest first.
    """

    lines: int
    by_step: Mapping[str, NDArray[np.float64]]
    scores: Sequence[Line]

    @property
    def detection_terms(self) -> list[str]:
        """Names of the terms of the detection loss."""
        taught = self.distillation_terms
        return [name for name in self.by_step if name not in (*NO_TERMS, *taught) and "/" not in name]

    @property
    def distillation_terms(self) -> list[str]:
        """Names of the terms that have a weight."""
        return [name for name in self.by_step if f"{name}/weight" in self.by_step]

    @property
    def best(self) -> Line | None:
        """The evaluation with the highest AP, of equals the latest: that of the kept detector."""
        return max(reversed(self.scores), key=ap_of, default=None)

    def by_epoch(self, key: str) -> list[tuple[float, float]]:
        """Epoch and score of each evaluation that has one."""
        return [(line["epoch"], line[key]) for line in self.scores if line.get(key) is not None]


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
        content = read_regular(file) if file.exists() else b""
    except OSError as error:
        raise DetdistillError(f"{file} cannot be read: {error.strerror}") from error
    lines = [values for line in content.splitlines() if (values := _values(line)) is not None]
    with_loss = [line for line in lines if "loss" in line]
    columns: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for line in with_loss:
        step = line["step"]
        for key, value in line.items():
            if isinstance(value, int | float):
                columns[key].append((step, value))
    by_step = {key: np.array(points, dtype=np.float64) for key, points in columns.items()}
    finite = {key: points[np.isfinite(points).all(axis=1)] for key, points in by_step.items()}
    return History(len(with_loss), finite, [line for line in lines if "AP" in line])


def _values(line: bytes) -> Line | None:
    try:
        values = msgspec.json.decode(line)
    except msgspec.DecodeError:
        # Four times as slow, but knows NaN and Infinity.
        try:
            values = json.loads(line)
        except ValueError:
            return None
    return values if isinstance(values, dict) and {"step", "epoch"} <= values.keys() else None
