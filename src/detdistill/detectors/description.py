"""`model.json`: everything about a saved detector but its weights."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detdistill.core.annotations import DetectionDataset, fingerprint
from detdistill.core.errors import DetdistillError
from detdistill.core.files import write_atomically
from detdistill.core.normalization import Normalization
from detdistill.detectors.dense.architecture import Architecture
from detdistill.detectors.dense.torchvision_detector import TorchvisionArchitecture
from detdistill.detectors.postprocess import PostProcessing
from detdistill.detectors.typed_json import MismatchError, from_json

FORMAT = 2
"""Format 2 added `image_size.canvas` and `postprocessing.class_agnostic`; format 1 is still read."""
FILE_NAME = "model.json"


@dataclass(frozen=True)
class ImageSize:
    """The size of the images that a detector was trained for; the fields of `ImageOptions`.

    Attributes:
        short_side: pixels of the shorter side, as far as `long_side` allows.
        long_side: upper limit of the longer side, in pixels.
        letterbox: side of a square that images are fitted into instead, in pixels.
        canvas: height and width of one canvas for all images, in pixels; None: each image has its own.
    """

    short_side: int = 800
    long_side: int = 1333
    letterbox: int | None = None
    canvas: tuple[int, int] | None = None


@dataclass(frozen=True, kw_only=True)
class Description:
    """The contents of `model.json` that every kind of detector has.

    Attributes:
        format: of the file; a reader refuses what is newer than itself.
        classes: class names; label c is `classes[c]`.
        normalization: of the input.
        postprocessing: how detections are read off an output.
        weights_sha256: of `model.safetensors`, in hexadecimal.
        image_size: what the detector was trained for; None if that is not known.
        score_thresholds: by class name, the score from which on a detection is shown; None if none were chosen.
        provenance: where the weights come from: versions of the libraries, hashes, anything else.
    """

    format: int = FORMAT
    classes: tuple[str, ...]
    normalization: Normalization
    postprocessing: PostProcessing
    weights_sha256: str
    image_size: ImageSize | None = None
    score_thresholds: Mapping[str, float] | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DenseDescription(Description):
    """A `DenseDetector`.

    Attributes:
        kind: tells the kinds apart in the file.
        architecture: the layers.
    """

    kind: Literal["dense"] = "dense"
    architecture: Architecture


@dataclass(frozen=True, kw_only=True)
class TorchvisionDescription(Description):
    """A `TorchvisionDetector`.

    Attributes:
        kind: tells the kinds apart in the file.
        architecture: the layers.
    """

    kind: Literal["torchvision"] = "torchvision"
    architecture: TorchvisionArchitecture


KINDS = {"dense": DenseDescription, "torchvision": TorchvisionDescription}


def read_description(folder: Path) -> DenseDescription | TorchvisionDescription:
    """Reads a run folder's `model.json`.

    Raises:
        DetdistillError: it is missing, damaged, not ours, or of a newer format.
    """
    path = folder / FILE_NAME
    try:
        content = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DetdistillError(
            f"{folder} holds no {FILE_NAME}, so no whole detector: give the folder of a finished run, or bring a "
            "checkpoint of another library in with `detdistill import`"
        ) from error
    except OSError as error:
        raise DetdistillError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DetdistillError(f"{path} is damaged, it is not JSON ({error}): copy the run folder again") from error
    written = content.get("format") if isinstance(content, dict) else None
    if type(written) is not int or written < 1:
        raise DetdistillError(f"{path} is not a detdistill model: it does not say its format")
    if written > FORMAT:
        raise DetdistillError(
            f"{path} has format {written} and this detdistill reads up to {FORMAT}: it was written by a newer version; "
            "upgrade with `pip install --upgrade detdistill`"
        )
    kind = content.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise DetdistillError(f"{path} does not describe a detector: kind: {kind!r} is none of {', '.join(KINDS)}")
    try:
        description: DenseDescription | TorchvisionDescription = from_json(KINDS[kind], content)
    except (MismatchError, DetdistillError) as error:
        raise DetdistillError(f"{path} does not describe a detector: {error}") from error
    _check_names(path, description)
    return description


def write_description(folder: Path, description: DenseDescription | TorchvisionDescription) -> None:
    """Writes `model.json`, whole or not at all.

    Raises:
        DetdistillError: a threshold is for no class, the provenance is not JSON, or the file cannot be written.
    """
    path = folder / FILE_NAME
    _check_names(path, description)
    try:
        text = json.dumps(dataclasses.asdict(description), indent=2, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise DetdistillError(f"{path} cannot be written, a value is not JSON: {error}") from error
    write_atomically(path, text + "\n")


def was_trained_on(description: Description, dataset: DetectionDataset) -> bool:
    """Whether a detector has learned from exactly these annotated images: what it scores on them says little."""
    data = description.provenance.get("data")
    return isinstance(data, Mapping) and data.get("annotations_sha256") == fingerprint(dataset)


def store_thresholds(folder: Path, thresholds: Mapping[str, float]) -> None:
    """Notes in `model.json` the score per class name from which on a detection is shown."""
    write_description(folder, dataclasses.replace(read_description(folder), score_thresholds=thresholds))


def _check_names(path: Path, description: Description) -> None:
    classes = description.classes
    if not classes or len(set(classes)) < len(classes):
        raise DetdistillError(f"{path}: classes must be names that differ, at least one; found {list(classes)}")
    unknown = sorted(set(description.score_thresholds or ()) - set(classes))
    if unknown:
        raise DetdistillError(
            f"{path}: score thresholds for {', '.join(unknown)}, which are not among the classes {', '.join(classes)}"
        )
