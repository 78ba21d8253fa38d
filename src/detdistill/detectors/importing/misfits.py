"""Which tensors of a checkpoint do not fit the detector that is made of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.detectors.importing.state_dicts import FLOATS

COUNTER = "num_batches_tracked"
"""Batch norm's count of batches says nothing about the weights, and old files lack it."""


def refuse_misfits(
    names: Mapping[str, str], wanted: Mapping[str, Tensor], state: Mapping[str, Tensor], unread: Collection[str] = ()
) -> None:
    """Raise `DetdistillError`, which lists all of them, if tensors are missing, misshapen or left over.

    Args:
        names: name in the checkpoint by name in the detector, without counters of batches.
        wanted: the detector's tensors.
        state: the checkpoint's tensors.
        unread: names of tensors that may be left over.
    """
    problems = []
    for name, theirs in names.items():
        found = state.get(theirs)
        if found is None:
            problems.append(f"{theirs} is missing")
        elif found.shape != wanted[name].shape:
            problems.append(f"{theirs} has the shape {tuple(found.shape)}; expected {tuple(wanted[name].shape)}")
        elif found.dtype not in FLOATS:
            problems.append(f"{theirs} is of the type {found.dtype}; expected floating-point numbers")
    known = {*names.values(), *unread}
    problems += [
        f"{key} is not part of such a detector" for key in state if key not in known and not key.endswith(COUNTER)
    ]
    if problems:
        raise DetdistillError(f"its weights do not fit the detector that they seem to be of:{listed(problems)}")
