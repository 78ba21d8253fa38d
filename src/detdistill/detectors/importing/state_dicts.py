"""The state dict in a checkpoint, wherever training scripts and libraries put it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.core.errors import LISTED, DetdistillError, listed
from detdistill.detectors.importing.pickles import RefusedError, StandIn, module_state

NETWORKS = (
    *("state_dict", "model_state_dict", "model", "model_state", "model_weights", "net", "network", "net_state_dict"),
    *("detector", "student", "student_state_dict", "weights", "params", "parameters", "module", "state", "checkpoint"),
)
"""Keys that hold a network, the usual ones first."""

AVERAGES = (
    *("ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema", "model_ema_state_dict"),
    *("ema_model_state_dict", "params_ema", "ema_weights", "averaged_model"),
)
"""Keys that hold a moving average of the weights, which is what its training script evaluated."""

TEACHERS = ("teacher", "teacher_state_dict", "teacher_model")
OTHERS = ("optimizer", "optimizers", "optimizer_states", "optimizer_state_dict", "scheduler", "lr_scheduler")
"""Keys that hold tensors by name too, but no network."""

MOST_DIMENSIONS = 64
"""Of a tensor that PyTorch can compute with; safetensors files hold more."""
DEEPEST = 4
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


@dataclass(frozen=True)
class Located:
    """A state dict and where it was.

    Attributes:
        state: values by key, not yet checked.
        place: the keys that lead to it, from the outermost.
        notes: what else the checkpoint holds that could have been meant.
    """

    state: Mapping[Any, Any]
    place: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def locate_state_dict(content: Any) -> Located | None:
    """Finds the state dict in a checkpoint; None if there is none.

    It may be the checkpoint itself, or stand under any of the usual keys, also one below the other, or be that of a
    whole model which was saved as an object. Of the weights and their moving average, the average is taken. A
    teacher's weights are left out.

    Args:
        content: what `open_checkpoint` returned.

    Raises:
        RefusedError: a model in it is damaged.
    """
    return _located(content, ())


def _located(content: Any, place: tuple[str, ...]) -> Located | None:
    if isinstance(content, StandIn):
        content = module_state(content)
    if not isinstance(content, Mapping) or len(place) > DEEPEST:
        return None
    network, average = (_first(content, keys, place) for keys in (NETWORKS, AVERAGES))
    if network is not None and average is not None:
        return _average_or_not(content, network, average)
    found = network or average
    if found is not None:
        return _with_teacher(content, found)
    if any(isinstance(value, Tensor) for value in content.values()):
        return Located(content, place)
    others = [key for key in content if isinstance(key, str) and key not in (*TEACHERS, *OTHERS)]
    inner = [located for key in others if (located := _first(content, (key,), place)) is not None]
    return _with_teacher(content, inner[0]) if len(inner) == 1 else None


def _first(content: Mapping[Any, Any], keys: Iterable[str], place: tuple[str, ...]) -> Located | None:
    for key in keys:
        if isinstance(content.get(key), Mapping | StandIn):
            located = _located(content[key], (*place, key))
            if located is not None:
                return located
    return None


def _average_or_not(content: Mapping[Any, Any], network: Located, average: Located) -> Located:
    """The moving average; mmengine saves it in the place of the weights, and these as the average."""
    swapped = average.place[-1] == "ema_state_dict" and (
        "steps" in average.state or not {"meta", "message_hub"}.isdisjoint(content)
    )
    taken, left = (network, average) if swapped else (average, network)
    what = "mmengine keeps the moving average (EMA) there" if swapped else "they are the moving average (EMA)"
    note = f"the weights under {'.'.join(taken.place)} were taken, not those under {'.'.join(left.place)}: {what}"
    return _with_teacher(content, Located(taken.state, taken.place, (*taken.notes, note)))


def _with_teacher(content: Mapping[Any, Any], found: Located) -> Located:
    teachers = [key for key in TEACHERS if isinstance(content.get(key), Mapping | StandIn)]
    notes = (f"the weights under {'.'.join(found.place)} were taken; left out: {key}" for key in teachers)
    return Located(found.state, found.place, (*found.notes, *notes))


def find_state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    """The parameters and buffers in a checkpoint, found as by `locate_state_dict`.

    Args:
        content: what `open_checkpoint` returned.
        path: the file, for messages and for the bound on memory.

    Returns:
        Tensors by key, in the file's order.

    Raises:
        DetdistillError: there is no state dict; or a tensor is unreadable, larger than the file, or not finite.
    """
    try:
        located = locate_state_dict(content)
    except RefusedError as error:
        raise DetdistillError(f"{path} {error}") from error
    if located is None:
        raise DetdistillError(f"{path} holds no state dict: {_found_instead(content)}")
    size = path.stat().st_size
    problems = [problem for key, value in located.state.items() if (problem := _tensor_problem(key, value, size))]
    if problems:
        raise DetdistillError(f"{path}: {len(problems)} entries of the state dict cannot be used:{listed(problems)}")
    return dict(located.state)


def _found_instead(content: Any) -> str:
    expected = f"expected tensors by name, at the top or under {', '.join(NETWORKS[:4])} …"
    if isinstance(content, StandIn):
        return (
            f"it is an object of the class {type(content).__name__} whose weights cannot be read without its code; "
            f"{expected}. Save the model's `state_dict()` with torch.save where its code is installed"
        )
    keys = list(content)[:LISTED] if isinstance(content, Mapping) else []
    # Only names are written out: the text of a nested tuple can be longer than memory.
    entries = ", ".join(key if isinstance(key, str) else type(key).__name__ for key in keys)
    return f"{expected}; found {entries or type(content).__name__}"


def _tensor_problem(key: Any, value: Any, file_size: int) -> str | None:
    if not isinstance(key, str):
        return f"{type(key).__name__} instead of a name"
    if not isinstance(value, Tensor):
        return f"{key}: {type(value).__name__} instead of a tensor"
    if value.layout != torch.strided or value.device.type != "cpu" or value.dtype not in FLOATS + INTEGERS:
        return f"{key}: not a dense tensor of plain numbers"
    if value.dim() > MOST_DIMENSIONS:
        return f"{key}: {value.dim()} dimensions; a network's tensors have at most 5"
    # Strides of 0 let a few bytes claim any shape.
    if value.numel() * value.element_size() > file_size:
        return f"{key}: shape {tuple(value.shape)} needs more bytes than the whole file has"
    if value.dtype in FLOATS and not value.isfinite().all():
        return f"{key}: NaN or infinity"
    return None
