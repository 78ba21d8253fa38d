"""The state of a run from which it can go on."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch

from detdistill.core.annotations import DetectionDataset
from detdistill.core.errors import DetdistillError
from detdistill.core.files import open_regular, write_atomically

FORMAT = 2
"""Number of the format; the first one was pytorch-lightning's."""

KEYS = ("step", "data_sha256", "teacher", "task", "average", "optimizer", "schedule", "precision", "scores")


def write_checkpoint(file: Path, state: dict[str, Any]) -> None:
    """Write a state; the one before is there until the new one is whole.

    Args:
        file: Where to write.
        state: A value for each of `KEYS`, of tensors and plain types.

    Raises:
        DetdistillError: The disk is full or cannot be written.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(file, buffer.getvalue())


def read_checkpoint(file: Path, dataset: DetectionDataset, teacher: object) -> dict[str, Any]:
    """Read a state, on the CPU.

    Args:
        file: What `write_checkpoint` has written.
        dataset: The training set.
        teacher: What the run's task says of its teacher; None without one.

    Raises:
        DetdistillError: It is damaged, of another version, or of a run on other data or with another teacher.
    """
    try:
        with open_regular(file) as content:
            state: Any = torch.load(content, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for a damaged file
        reason = type(error).__name__
        raise DetdistillError(f"{file} is damaged ({reason}): {_WAY_OUT}") from error
    if not isinstance(state, dict):
        raise DetdistillError(f"{file} holds a {type(state).__name__} instead of a run's state: {_WAY_OUT}")
    if "pytorch-lightning_version" in state:
        raise DetdistillError(f"{file} was written by an older version, which alone can go on with it; {_WAY_OUT}")
    missing = [key for key in ("format", *KEYS) if key not in state]
    if missing or state["format"] != FORMAT:
        found = f"no {missing[0]}" if missing else f"format {state['format']}, expected {FORMAT}"
        raise DetdistillError(f"{file} is no state that this version can go on from ({found}): {_WAY_OUT}")
    if state["data_sha256"] != dataset.fingerprint:
        raise DetdistillError(
            f"{dataset.source} is not what this run was started on: its images or annotations have changed; start "
            "anew in another folder, or here (--overwrite)"
        )
    if state["teacher"] != teacher:
        raise DetdistillError(
            f"{file.parent.parent} was started with the teacher {state['teacher']} and would go on with {teacher}: put "
            "that teacher back, or start anew in another folder, or here (--overwrite)"
        )
    return state


_WAY_OUT = "copy the run folder again from where it is whole, or start anew (--overwrite)"
