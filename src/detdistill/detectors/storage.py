"""Reading a detector from a run folder. No code is ever run from its files."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detdistill.core.errors import DetdistillError, SettingsError, listed
from detdistill.core.json_files import check_format, read_object
from detdistill.core.settings import from_values
from detdistill.core.tensor_files import read_tensors
from detdistill.detectors.base import Detector
from detdistill.detectors.catalog import KINDS
from detdistill.detectors.description import FILE_NAME, FORMAT, Description, check_names, write_description
from detdistill.detectors.saving import OWN, WEIGHTS


def read_description(folder: Path) -> Description:
    """Reads a run folder's `model.json`.

    Raises:
        DetdistillError: it is missing, damaged, not ours, or of a newer format.
    """
    path = folder / FILE_NAME
    if not path.exists():
        raise DetdistillError(
            f"{folder} holds no {FILE_NAME}, so no whole detector: give the folder of a finished run, or bring a "
            "checkpoint of another library in with `detdistill import`"
        )
    content = read_object(path, "copy the run folder again")
    check_format(path, content, FORMAT, "a detdistill model")
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in (*KINDS, OWN):
        raise DetdistillError(f"{path} does not describe a detector: kind: {kind!r} is none of {', '.join(KINDS)}")
    try:
        described = from_values(Description, _converted(content))
        expected: Any = str if kind == OWN else KINDS[kind].architecture_type
        architecture = from_values(expected, described.architecture, key="architecture")
    except SettingsError as error:
        raise DetdistillError(f"{path} does not describe a detector: {error}") from error
    description: Description = dataclasses.replace(described, architecture=architecture)
    check_names(path, description)
    return description


def _converted(content: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a file of this format or an older one, in this format."""
    new = dict(content, format=FORMAT)
    if content["format"] < 3:
        new["input"] = {"normalization": new.pop("normalization", None), "size": new.pop("image_size", None)}
    if content["format"] < 4 and isinstance(content.get("architecture"), dict):
        new["architecture"] = architecture = dict(content["architecture"])
        for old, renamed in (("head", "kind"), ("network", "name")):
            if old in architecture:
                architecture[renamed] = architecture.pop(old)
        flat = ("channels", "extra_levels", "extra_source", "extra_relu")
        pyramid = {key: architecture.pop(key) for key in flat if key in architecture}
        if pyramid:
            architecture["pyramid"] = pyramid
    return new


def files_of_detector(folder: Path) -> list[Path]:
    """Return the files of a run folder that hold its detector; no output may replace them."""
    return [folder / FILE_NAME, folder / WEIGHTS]


def store_thresholds(folder: Path, thresholds: Mapping[str, float]) -> None:
    """Notes in `model.json` the score per class name from which on a detection is shown."""
    write_description(folder, dataclasses.replace(read_description(folder), score_thresholds=thresholds))


def load_detector(folder: Path, into: Detector | None = None) -> Detector:
    """Reads a detector that `save_detector` wrote; it comes back in evaluation mode, on the CPU.

    Args:
        folder: of the run.
        into: a detector of your own class, which gets the weights, if the folder holds one.

    Raises:
        DetdistillError: a file is missing, damaged, not ours, of a newer format, or the two do not belong together.
    """
    description = read_description(folder)
    tensors = read_tensors(folder / WEIGHTS, description.weights_sha256, FILE_NAME)
    if into is not None or description.kind == OWN:
        return _filled(folder, description, into, tensors)
    if description.kind == "dense":
        # Nothing is allocated on the meta device: a broken description cannot ask for more memory than its weights
        # need. torchvision's anchors cannot be made there, but its networks have one size.
        with torch.device("meta"):
            _check_state(folder, _build(folder, description).state_dict(), tensors)
    with torch.random.fork_rng(devices=[]):
        detector = _build(folder, description)
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


def _build(folder: Path, description: Description) -> Detector:
    try:
        architecture = description.architecture
        return KINDS[description.kind].from_architecture(architecture, description.classes, description.input)
    except Exception as error:  # values of the right type can still make no sense: torch and timm then raise anything
        raise DetdistillError(f"{folder / FILE_NAME} describes no detector that can be built: {error}") from error


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
