"""Writing a detector: `model.safetensors` has its weights and `model.json` all else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import save

from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.image_options import ImageSize
from detdistill.detectors.description import Description, write_description

if TYPE_CHECKING:
    from detdistill.detectors.base import Detector

WEIGHTS = "model.safetensors"
LIBRARIES = ("detdistill", "torch", "torchvision", "timm")
OWN = "own"
"""What `model.json` has for a detector of somebody's own class, which cannot be built from the file."""


def save_detector(
    detector: Detector,
    folder: Path,
    *,
    image_size: ImageSize | None = None,
    thresholds: Mapping[str, float] | None = None,
    provenance: Mapping[str, Any] | None = None,
) -> None:
    """Writes a detector into a folder, from which `load_detector` reads it.

    The weights come first and `model.json`, which holds their hash, last: half a detector is never taken for a whole.

    Args:
        detector: in float32.
        folder: created if it does not exist; a detector that is there already is replaced.
        image_size: what the detector was trained for, instead of `detector.input.size`.
        thresholds: by class name, the score from which on a detection is shown.
        provenance: anything to remember about where the weights come from, of JSON types; the versions of the
            libraries are added.

    Raises:
        DetdistillError: the detector is not in float32, or the folder cannot be written.
    """
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in detector.state_dict().items()}
    narrow = [name for name, tensor in state.items() if tensor.is_floating_point() and tensor.dtype != torch.float32]
    if narrow:
        raise DetdistillError(
            f"detectors are saved in float32, but {narrow[0]} and {len(narrow) - 1} more tensors are "
            f"{state[narrow[0]].dtype}: convert the detector with `.float()` first"
        )
    weights = save(state)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DetdistillError(f"{folder} cannot be created: {error.strerror}") from error
    write_atomically(folder / WEIGHTS, weights)
    own_class = f"{type(detector).__module__}.{type(detector).__qualname__}"
    description = Description(
        kind=detector.catalog_name,
        architecture=own_class if detector.catalog_name == OWN else detector.architecture,
        classes=detector.classes,
        input=detector.input if image_size is None else replace(detector.input, size=image_size),
        postprocessing=detector.postprocessing,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        score_thresholds=thresholds,
        provenance={**(provenance or {}), "versions": {library: version(library) for library in LIBRARIES}},
    )
    write_description(folder, description)
