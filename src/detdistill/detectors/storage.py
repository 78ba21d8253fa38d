"""A detector on disk: `model.safetensors` has its weights and `model.json` all else. No code is ever run from them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from detdistill.core.errors import DetdistillError, listed
from detdistill.core.files import write_atomically
from detdistill.core.image_options import ImageSize
from detdistill.detectors.base import Detector
from detdistill.detectors.catalog import KINDS, OWN
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.description import FILE_NAME, Description, read_description, write_description

WEIGHTS = "model.safetensors"
LIBRARIES = ("detdistill", "torch", "torchvision", "timm")


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
    kind = next((name for name, kind in KINDS.items() if isinstance(detector, kind)), OWN)
    own_class = f"{type(detector).__module__}.{type(detector).__qualname__}"
    description = Description(
        kind=kind,
        architecture=own_class if kind == OWN else detector.architecture,
        classes=detector.classes,
        input=detector.input if image_size is None else replace(detector.input, size=image_size),
        postprocessing=detector.postprocessing,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        score_thresholds=thresholds,
        provenance={**(provenance or {}), "versions": {library: version(library) for library in LIBRARIES}},
    )
    write_description(folder, description)


def load_detector(folder: Path, into: Detector | None = None) -> Detector:
    """Reads a detector that `save_detector` wrote; it comes back in evaluation mode, on the CPU.

    Args:
        folder: of the run.
        into: a detector of your own class, which gets the weights, if the folder holds one.

    Raises:
        DetdistillError: a file is missing, damaged, not ours, of a newer format, or the two do not belong together.
    """
    description = read_description(folder)
    tensors = _read_weights(folder / WEIGHTS, description.weights_sha256)
    if into is not None or description.kind == OWN:
        return _filled(folder, description, into, tensors)
    if description.kind == "dense":
        # Nothing is allocated on the meta device: a broken description cannot ask for more memory than its weights
        # need. torchvision's anchors cannot be made there, but its networks have one size.
        with torch.device("meta"):
            _check_state(folder, _build(folder, description, len(tensors)).state_dict(), tensors)
    with torch.random.fork_rng(devices=[]):
        detector = _build(folder, description, len(tensors))
    return _filled(folder, description, detector, tensors)


def _filled(
    folder: Path, description: Description, detector: Detector | None, tensors: Mapping[str, Tensor]
) -> Detector:
    if detector is None:
        raise DetdistillError(
            f"{folder} holds a detector of your own class {description.architecture}: build it and give it, "
            "detdistill.load(folder, into=detector)"
        )
    if detector.classes != description.classes:
        raise DetdistillError(
            f"{folder} holds a detector of the classes {', '.join(description.classes)}; the given one has "
            f"{', '.join(detector.classes)}"
        )
    _check_state(folder, detector.state_dict(), tensors)
    detector.load_state_dict(tensors)
    detector.input = description.input
    detector.postprocessing = description.postprocessing
    detector.score_thresholds = description.score_thresholds or {}
    return detector.eval()


def _build(folder: Path, description: Description, num_tensors: int) -> Detector:
    try:
        architecture = description.architecture
        if isinstance(architecture, Architecture):
            depth = architecture.towers.depth if architecture.towers else 0
            if max(architecture.extra_levels, depth) > num_tensors:
                raise DetdistillError(f"it has more layers than {WEIGHTS} has tensors")
        return KINDS[description.kind].from_architecture(architecture, description.classes, description.input)
    except Exception as error:  # values of the right type can still make no sense: torch and timm then raise anything
        raise DetdistillError(f"{folder / FILE_NAME} describes no detector that can be built: {error}") from error


def _read_weights(path: Path, sha256: str) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != sha256:
            raise DetdistillError(
                f"{path} is not the file that {FILE_NAME} beside it was written for (SHA-256 {found[:12]}…, not "
                f"{sha256[:12]}…): it is damaged, or saving was interrupted; copy the run folder again, or save again"
            )
        tensors: dict[str, Tensor] = load_file(path)
        return tensors
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise DetdistillError(f"{path} is no safetensors file: {error}") from error


def _check_state(folder: Path, expected: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    problems = [f"{name}: missing" for name in expected if name not in tensors]
    problems += [f"{name}: not part of the detector" for name in tensors if name not in expected]
    problems += [
        f"{name}: {tuple(tensors[name].shape)} {tensors[name].dtype}; the architecture asks for "
        f"{tuple(tensor.shape)} {tensor.dtype}"
        for name, tensor in expected.items()
        if name in tensors and (tensors[name].shape != tensor.shape or tensors[name].dtype != tensor.dtype)
    ]
    if problems:
        raise DetdistillError(f"{folder / WEIGHTS} does not fit the architecture in {FILE_NAME}:{listed(problems)}")
