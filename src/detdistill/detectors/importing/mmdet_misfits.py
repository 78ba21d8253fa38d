"""Weights that do not fit the detector that they seem to be of."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.detectors.importing.state_dicts import FLOATS


def refuse_misfits(
    names: Mapping[str, str],
    wanted: Mapping[str, Tensor],
    state: Mapping[str, Tensor],
    left_out: Collection[str] = (),
) -> None:
    """Raises `DetdistillError`, which lists them, for tensors that are missing, misshapen or too many.

    Args:
        names: theirs of each tensor by our name.
        wanted: our tensors, of which the shapes count.
        state: theirs.
        left_out: names of theirs that nobody needs.
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
    known = {*names.values(), *left_out}
    problems += [
        f"{key} is not part of such a detector"
        for key in state
        if key not in known and not key.endswith("num_batches_tracked")
    ]
    if problems:
        raise DetdistillError(f"its weights do not fit the detector that they seem to be of:{listed(problems)}")
