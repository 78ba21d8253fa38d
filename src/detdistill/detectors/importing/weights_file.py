"""Another library's checkpoint, opened and with plain names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from detdistill.core.errors import DetdistillError
from detdistill.detectors.importing.checkpoint_opening import OWN_DESCRIPTION, OWN_WEIGHTS, open_checkpoint
from detdistill.detectors.importing.state_dicts import find_state_dict, locate_state_dict
from detdistill.detectors.importing.state_names import network_names


@dataclass(frozen=True, eq=False)
class ForeignWeights:
    """What a checkpoint of another library holds.

    Attributes:
        state: tensors by the names that the network itself gives them, without any wrapper's.
        meta: what stands beside them under `meta`, where mmdetection keeps its configuration and class names.
        notes: which weights were taken, if the file holds several; one sentence each.
    """

    state: dict[str, Tensor]
    meta: Mapping[Any, Any]
    notes: tuple[str, ...]


def read_weights(path: Path) -> ForeignWeights:
    """Reads a checkpoint to import.

    Args:
        path: `.safetensors`, or what `torch.save` or `pickle.dump` wrote.

    Raises:
        DetdistillError: the file cannot be read safely, holds no state dict or several networks, or is part of a
            detector in detdistill's own format.
    """
    if path.name == OWN_WEIGHTS and (path.parent / OWN_DESCRIPTION).exists():
        raise DetdistillError(
            f"{path} is part of the detdistill detector in {path.parent}, which needs no import: pass that folder to "
            "any command, or open it in Python with detdistill.load"
        )
    content = open_checkpoint(path)
    state = find_state_dict(content, path)
    located = locate_state_dict(content)
    place, notes = (located.place, located.notes) if located is not None else ((), ())
    try:
        network = network_names(state)
    except DetdistillError as error:
        raise DetdistillError(f"{path} {error}") from error
    return ForeignWeights(
        state={name: state[key] for name, key in network.names.items()},
        meta=_meta(content, place),
        notes=(*notes, *network.notes),
    )


def _meta(content: Any, place: Sequence[str]) -> Mapping[Any, Any]:
    """What stands under `meta` beside the state dict, or further out."""
    found: Mapping[Any, Any] = {}
    for key in (*place, ""):
        if not isinstance(content, Mapping):
            break
        if isinstance(content.get("meta"), Mapping):
            found = content["meta"]
        content = content.get(key)
    return found
